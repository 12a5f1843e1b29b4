"""A machine that its provider stopped, with the only copy of the results on its disk, which goes on billing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from cloudrun.backends import Backend
from cloudrun.billing.cost import cost_of, stopped_disk_hourly_usd
from cloudrun.billing.receipt import receipt
from cloudrun.errors import RunNotFinished
from cloudrun.render.receipt_text import receipt_text
from cloudrun.runs.context import Context
from cloudrun.runs.down import ResultsNotHome, down
from cloudrun.runs.logs import log_of
from cloudrun.runs.lost import refuse_stopped
from cloudrun.runs.refresh import look
from cloudrun.state.records import JobState, now_utc
from tests.support.backends import OneMachine
from tests.support.desk import Desk
from tests.support.runs import a_runpod_quote, rented

# $1 an hour and $0.05 for its disk: stopped after half an hour, found two hours after it was rented.
ON_AWS = a_runpod_quote("A100:1", 1.0, infra="aws", disk_hourly_usd=0.05)


def test_from_then_on_its_disk_bills_alone(tmp_path: Path) -> None:
    ledger, run = rented(tmp_path, quote=ON_AWS)
    stopped = look(run, Context(ledger, cast("Backend", OneMachine(JobState.STOPPED))))
    assert run.billed_from is not None
    assert stopped.stopped_at == run.billed_from + timedelta(minutes=30)
    cost = cost_of(stopped, run.billed_from + timedelta(hours=10))
    assert (cost.hours, cost.is_final) == (0.5, False)
    assert float(cost.usd) == pytest.approx(0.5 * 1.05 + 9.5 * 0.05)


def test_its_end_ends_the_disks_bill_and_the_receipt_has_it(tmp_path: Path) -> None:
    ledger, run = rented(tmp_path, quote=ON_AWS)
    provider = cast("Backend", OneMachine(JobState.STOPPED, told=run.billed_from))
    assert look(run, Context(ledger, provider)).stopped_at == run.billed_from
    ended = down(ledger.get("r"), Context(ledger, provider), force=True)
    later = receipt(ended, now_utc() + timedelta(days=9))
    assert later["stopped_disk_usd"] == pytest.approx(2 * 0.05, abs=0.001)
    assert later["cost_usd"] == pytest.approx(2 * 0.05, abs=0.001)
    assert "$0.1000 since the machine was stopped" in receipt_text(later)


@pytest.mark.parametrize(
    ("quote", "expected", "hourly_usd"),
    [
        (ON_AWS, None, 0.05),
        (a_runpod_quote(infra="runpod"), None, 0.0),  # its disk goes with the machine
        (a_runpod_quote(infra="vast", disk_hourly_usd=0.0), a_runpod_quote(infra="vast", disk_hourly_usd=0.02), 0.02),
        (a_runpod_quote(infra="lambda", disk_hourly_usd=0.0), None, 0.0),
    ],
)
def test_the_disks_price_is_that_of_the_quote(quote: Any, expected: Any, hourly_usd: float, tmp_path: Path) -> None:
    _, run = rented(tmp_path, quote=quote, expected=expected)
    assert stopped_disk_hourly_usd(run) == hourly_usd


def test_every_way_to_it_names_the_price_a_day_and_both_ways_out(tmp_path: Path) -> None:
    ledger, run = rented(tmp_path, quote=ON_AWS)
    provider = cast("Backend", OneMachine(JobState.STOPPED))
    stopped = look(run, Context(ledger, provider))
    with pytest.raises(ResultsNotHome) as by_down:
        down(stopped, Context(ledger, provider), force=False)
    with pytest.raises(RunNotFinished) as by_logs:
        log_of(stopped)
    with pytest.raises(RunNotFinished) as by_fetch:
        refuse_stopped(stopped)
    for err in (by_down.value, by_logs.value, by_fetch.value):
        assert "its GPU bills no more, its disk does (about $1.20 a day)" in err.message
        assert "`sky start -i 30 --down cloudrun-r`, then `cloudrun fetch r` and `cloudrun down r`" in err.hint
        assert "or leave them behind: `cloudrun down r --force`" in err.hint


def test_ps_says_so_as_well(desk: Desk) -> None:
    since = now_utc() - timedelta(hours=2)
    desk.ended_run(
        backend="sky", phase="lost", quote=ON_AWS, billed_from=since, stopped_at=since + timedelta(hours=1),
        run_uri="node://cloudrun-plants-1/root/cloudrun/plants-1",
    )  # fmt: skip
    shown = desk("ps")
    assert shown.code == 0
    assert "warning: the machine of `plants-1` is stopped: its GPU bills no more, its disk does" in shown.err
    assert "$1.10" in shown.out  # an hour of both, and one of the disk


def test_the_next_machine_is_not_stopped(tmp_path: Path) -> None:
    ledger, run = rented(tmp_path, quote=ON_AWS)
    stopped = look(run, Context(ledger, cast("Backend", OneMachine(JobState.STOPPED))))
    now = now_utc()
    on_next = stopped.next_machine(now)
    assert (on_next.stopped_at, on_next.disk_until, on_next.billed_from, on_next.may_bill) == (None, None, now, True)
    assert cost_of(on_next, now + timedelta(hours=1)).hours == pytest.approx(1.5)


def test_one_that_was_started_again_bills_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    ledger, run = rented(tmp_path / "home", quote=ON_AWS, run_uri=(tmp_path / "run").as_uri())
    provider = OneMachine(JobState.STOPPED)
    assert look(run, Context(ledger, cast("Backend", provider))).stopped_at is not None
    up = look(ledger.get("r"), Context(ledger, cast("Backend", OneMachine(JobState.IDLE))))
    assert (up.stopped_at, up.may_bill) == (None, True)
