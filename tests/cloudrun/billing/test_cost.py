"""Money: to the cent, and never less than the truth."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from cloudrun.billing.cost import cost_of, usd_for, worst_case
from cloudrun.catalog.disk_price import disk_hourly_usd
from cloudrun.protocol.order import Order
from cloudrun.state.records import Interval, Phase
from cloudrun.state.run import Ending, ending_of_gone
from tests.support.runs import START, a_skypilot_run, a_slurm_quote


def test_a_machine_bills_until_it_is_proven_gone_whatever_its_job_does() -> None:
    run = a_skypilot_run(billed_from=START, phase=Phase.SUCCEEDED, finished_at=START + timedelta(minutes=10))
    cost = cost_of(run, START + timedelta(hours=1))
    assert (cost.usd, cost.is_final) == (Decimal("1.2900"), False)


def test_a_released_machine_costs_no_more() -> None:
    run = a_skypilot_run(billed_from=START, released_at=START + timedelta(minutes=30))
    cost = cost_of(run, START + timedelta(days=3))
    assert (cost.usd, cost.is_final, cost.hours) == (Decimal("0.6450"), True, 0.5)


def test_machines_of_a_resumed_run_add_up() -> None:
    first = Interval(quote=a_slurm_quote(2.0), billed_from=START, released_at=START + timedelta(minutes=30))
    later = START + timedelta(hours=5)
    run = a_skypilot_run(earlier=(first,), billed_from=later, released_at=later + timedelta(hours=1))
    assert cost_of(run, later + timedelta(days=1)).usd == Decimal("2.2900")


def test_nothing_was_rented_so_nothing_is_owed() -> None:
    assert cost_of(a_skypilot_run(), START).usd == 0


def test_half_a_hundredth_of_a_cent_is_rounded_up() -> None:
    assert usd_for(0.5, 0.36) == Decimal("0.0001")


@pytest.mark.parametrize(
    ("max_cost", "max_hours", "hourly", "usd", "limit"),
    [(5, 4, 1.0, "4.0000", "max_hours"), (5, 4, 2.5, "5", "max_cost"), (5, 4, 0.0, "0.0000", "max_hours")],
)
def test_the_worst_case_is_the_limit_that_is_met_first(
    max_cost: float, max_hours: float, hourly: float, usd: str, limit: str
) -> None:
    worst = worst_case(max_cost=max_cost, max_hours=max_hours, hourly_usd=hourly)
    assert (worst.usd, worst.limit) == (Decimal(usd), limit)


@pytest.mark.parametrize(
    ("seen_min", "told_min", "ending"),
    [
        (None, None, Ending(START, START + timedelta(minutes=60))),
        (25, None, Ending(START + timedelta(minutes=25), START + timedelta(minutes=60))),
        (25, 40, Ending(START + timedelta(minutes=40))),
        (None, 40, Ending(START + timedelta(minutes=40))),
        # A clock that is wrong never makes a bill that is longer than what anybody can have billed, or shorter than 0.
        (70, None, Ending(START + timedelta(minutes=60))),
        (None, 70, Ending(START + timedelta(minutes=60))),
        (-5, None, Ending(START, START + timedelta(minutes=60))),
        (None, -5, Ending(START)),
    ],
)
def test_a_machine_that_is_found_gone_is_billed_to_what_proves_that_it_was_up(
    seen_min: int | None, told_min: int | None, ending: Ending
) -> None:
    def at(minutes: int | None) -> datetime | None:
        return None if minutes is None else START + timedelta(minutes=minutes)

    run = a_skypilot_run(billed_from=START, last_seen_at=at(seen_min))
    assert ending_of_gone(run, START + timedelta(minutes=60), told=at(told_min)) == ending


def test_an_end_that_nobody_saw_is_a_range_of_dollars_of_all_machines() -> None:
    first = Interval(
        quote=a_slurm_quote(2.0), billed_from=START, released_at=START + timedelta(minutes=30),
        released_by=START + timedelta(minutes=60),
    )  # fmt: skip
    later = START + timedelta(hours=5)
    run = a_skypilot_run(earlier=(first,), billed_from=later, released_at=later, released_by=later + timedelta(hours=1))
    cost = cost_of(run, later + timedelta(days=1))
    assert (cost.usd, cost.high_usd, cost.is_final) == (Decimal("1.0000"), Decimal("3.2900"), True)
    assert (cost.billed_to, cost.latest) == (later, later + timedelta(hours=1))


def order(**changes: Any) -> Order:
    fields: dict[str, Any] = dict.fromkeys(Order.__dataclass_fields__)
    budget = {"hourly_usd": 1.2, "max_cost_usd": 5.0, "max_hours": 4.0, "billed_s": 0.0, "spent_usd": 0.0}
    return Order(**{**fields, **budget, **changes})


@pytest.mark.parametrize(
    ("changes", "limit_s"),
    [
        ({}, 4 * 3600),
        ({"max_cost_usd": 1.2}, 3600),
        ({"hourly_usd": 0.0}, 4 * 3600),
        ({"max_hours": 0.01}, 36),
        # An earlier machine took 600 s at twice the price: what is left buys 2400 s on this one.
        ({"max_cost_usd": 1.2, "billed_s": 600.0, "spent_usd": 0.4}, 3000),
        ({"max_cost_usd": 1.2, "billed_s": 600.0, "spent_usd": 2.0}, 600),
    ],
)
def test_the_worker_counts_the_budget_in_seconds_of_the_machine(changes: dict[str, float], limit_s: float) -> None:
    assert order(**changes).limit_s() == pytest.approx(limit_s)


def test_the_end_of_the_budget_is_kept_for_saving() -> None:
    assert order().reserve_s() == 120
    assert order(max_hours=0.01).reserve_s() == pytest.approx(9)


def test_what_is_left_to_train_is_less_what_is_kept_and_what_follows() -> None:
    assert order(after_s=60.0).train_hours(1800.0) == pytest.approx((4 * 3600 - 120 - 60 - 1800) / 3600)
    assert order(after_s=60.0).train_hours(1e6) == 0


def test_what_is_sent_before_the_worker_starts_is_billed_and_spent() -> None:
    late = order(billed_s=100.0, spent_usd=0.5, written_at=1000.0).at(1900.0)
    assert (late.billed_s, late.spent_usd, late.written_at) == (1000.0, 0.8, 1900.0)


@pytest.mark.parametrize(
    ("by_the_sender_s", "by_the_machine_s", "billed_s"),
    [
        (30, 30, 130),
        (-5, 3, 103),  # the sender's clock is fast
        (7200, 3, 103),  # it is slow by two hours
        (4, 7200, 104),  # the machine's clock was set meanwhile
        (3600, 3600, 3700),  # a start that late is a second one, and no error of a clock
        (-5, -1, 100),
    ],
)
def test_seconds_between_the_order_and_the_worker_are_billed(
    by_the_sender_s: float, by_the_machine_s: float, billed_s: float
) -> None:
    now = 10_000.0
    asked = order(billed_s=100.0, written_at=now - by_the_sender_s)
    assert asked.billed_at_start(now, arrived_at=now - by_the_machine_s) == billed_s


@pytest.mark.parametrize(
    ("infra", "size_gb", "usd"), [("aws", 730, 0.08), ("vast", 73, 0.015), ("slurm", 730, 0.0), ("lambda", 100, 0.0)]
)
def test_a_disk_is_priced_where_its_provider_bills_it_apart(infra: str, size_gb: float, usd: float) -> None:
    assert disk_hourly_usd(infra, size_gb) == pytest.approx(usd)
