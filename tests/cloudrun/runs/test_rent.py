"""Getting a machine: what is dearer than agreed, what does not come, and what that costs all the same."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from cloudrun.backends import Backend, NotInTime, Terms
from cloudrun.billing.cost import cost_of
from cloudrun.errors import Interrupted, NoMachine
from cloudrun.job.plan import Plan
from cloudrun.runs.console import Console
from cloudrun.runs.context import Context
from cloudrun.runs.rent import rent
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import Fallback, Phase, Quote, now_utc
from cloudrun.state.run import Run
from tests.support.backends import Market
from tests.support.console import Told
from tests.support.plans import RUN_ID, a_plan
from tests.support.runs import a_runpod_quote, a_skypilot_run

AGREED = a_runpod_quote(fallbacks=(Fallback(gpu="A100-80GB:1", infra="runpod", total_hourly_usd=1.65),))


def a_ledger(home: Path, **changes: Any) -> Ledger:
    ledger = Ledger(home)
    ledger.add(a_skypilot_run(run_id=RUN_ID, quote=None, expected=AGREED, infra="runpod", **changes))
    return ledger


def try_to_rent(ledger: Ledger, market: Market, console: Console, gpu: tuple[str, ...] = ("RTX4090:1",)) -> Run:
    rent(a_plan(gpu=gpu, infra="runpod"), Context(ledger, cast("Backend", market), console))
    return ledger.get(RUN_ID)


def test_a_machine_at_the_agreed_price_is_kept_and_billed_by_its_providers_clock(tmp_path: Path) -> None:
    market = Market({"RTX4090:1": a_runpod_quote(hourly_usd=0.75)})
    run = try_to_rent(a_ledger(tmp_path), market, Told().console())
    assert (run.start_is, run.may_bill, market.up) == ("provider", True, {"RTX4090:1"})
    assert run.quote is not None
    assert run.quote.hourly_usd == 0.75
    assert (market.asked[0].agreed, market.asked[0].within_s) == (AGREED, 1200)


def test_a_dearer_machine_is_given_back_where_nobody_can_be_asked(tmp_path: Path) -> None:
    ledger, market = a_ledger(tmp_path), Market({"RTX4090:1": a_runpod_quote(hourly_usd=0.966)})
    with pytest.raises(NoMachine, match=r"bills m at \$0.9797 an hour, and \$0.7037 was agreed to, 39% more"):
        try_to_rent(ledger, market, Told().console())
    run = ledger.get(RUN_ID)
    assert (run.phase, run.exit_code, run.may_bill, run.end_is_proven) == (Phase.FAILED, 3, False, True)
    assert run.quote is not None
    assert run.quote.hourly_usd == 0.966  # what it was billed at while it was up
    assert market.up == set()


@pytest.mark.parametrize("says", [True, False])
def test_a_person_is_asked_for_the_dearer_machine(says: bool, tmp_path: Path) -> None:
    ledger, market, told = a_ledger(tmp_path), Market({"RTX4090:1": a_runpod_quote(hourly_usd=0.966)}), Told()
    if says:
        assert try_to_rent(ledger, market, told.console(says=says)).may_bill
    else:
        with pytest.raises(NoMachine):
            try_to_rent(ledger, market, told.console(says=says))
        assert not ledger.get(RUN_ID).may_bill
    assert len(told.questions) == 1
    assert told.questions[0].endswith("Keep it?")


def test_the_next_of_the_list_is_tried_and_the_first_ones_bill_is_kept(tmp_path: Path) -> None:
    market = Market({"RTX4090:1": None, "A100-80GB:1": a_runpod_quote("A100-80GB:1", 1.64)})
    ledger, told = a_ledger(tmp_path), Told()
    run = try_to_rent(ledger, market, told.console(), ("RTX4090:1", "A100-80GB:1"))
    assert market.up == {"A100-80GB:1"}
    assert len(run.earlier) == 1
    assert run.earlier[0].quote == AGREED
    assert told.lines == ["RTX4090:1 was not ready; trying A100-80GB:1"]


def test_a_machine_that_never_gets_ready_is_on_the_bill(tmp_path: Path) -> None:
    since = now_utc() - timedelta(minutes=10)
    ledger = a_ledger(tmp_path, billed_from=since, start_is="request")  # a launch that was cut short asked for it
    market = Market({"RTX4090:1": None})
    with pytest.raises(NotInTime):
        try_to_rent(ledger, market, Told().console())
    run = ledger.get(RUN_ID)
    assert (run.may_bill, run.exit_code, run.start_is) == (False, 3, "provider")
    assert cost_of(run, now_utc()).is_final


def test_what_nobody_ever_saw_costs_nothing(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    with pytest.raises(NoMachine, match="sold out"):
        try_to_rent(ledger, Market({}), Told().console())
    run = ledger.get(RUN_ID)
    assert (run.billed_from, run.phase, run.exit_code) == (None, Phase.FAILED, 3)


def test_a_down_from_elsewhere_while_it_is_rented_leaves_a_bill(tmp_path: Path) -> None:
    since = now_utc() - timedelta(minutes=6)
    ledger = a_ledger(tmp_path, billed_from=since, start_is="request")
    market = Market({"RTX4090:1": None})

    def down() -> None:
        for step in (
            lambda run: run.stopped("stopped while it was launched"),
            lambda run: run.model_copy(update={"billed_from": since}),
        ):
            ledger.update(RUN_ID, step)

    market.meanwhile = down
    with pytest.raises(Interrupted, match="stopped by another command"):
        try_to_rent(ledger, market, Told().console())
    run = ledger.get(RUN_ID)
    assert (run.phase, run.may_bill) == (Phase.STOPPED, False)
    assert cost_of(run, now_utc()).usd > 0


@pytest.mark.parametrize("off_s", [-7200, 7200])
def test_a_clock_of_another_world_is_not_counted_from(off_s: int, tmp_path: Path) -> None:
    ledger, market = a_ledger(tmp_path), Market({"RTX4090:1": a_runpod_quote()})
    asked_at = now_utc()
    rent_as_before = market.rent

    def rent_by_a_wrong_clock(plan: Plan, say: object, terms: Terms) -> Quote:
        def on_seen(at: datetime, hourly_usd: float | None) -> None:
            terms.on_seen(at + timedelta(seconds=off_s), hourly_usd)

        return rent_as_before(plan, say, Terms(terms.agreed, terms.within_s, on_seen))

    market.rent = rent_by_a_wrong_clock  # type: ignore[method-assign]
    run = try_to_rent(ledger, market, Told().console())
    assert run.start_is == "request"
    assert run.billed_from is not None
    assert abs((run.billed_from - asked_at).total_seconds()) <= 2
