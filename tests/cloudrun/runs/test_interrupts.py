"""The last minutes of a launch: what interrupts it, and what must not."""

from __future__ import annotations

import signal
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import cast

import pytest

from cloudrun.backends import Backend
from cloudrun.backends.local import LocalBackend
from cloudrun.billing.cost import cost_of
from cloudrun.remote.ssh import MachineUnreachable
from cloudrun.runs import attempt
from cloudrun.runs.attempt import signals_as_interrupt
from cloudrun.runs.console import Console
from cloudrun.runs.context import Context
from cloudrun.runs.down import ResultsNotHome, down
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import JobState, Phase, now_utc
from cloudrun.state.run import Run
from tests.support.runs import a_local_run, a_skypilot_run


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_closed_terminal_is_one_interrupt_however_often_it_is_said(number: signal.Signals) -> None:
    """A shell passes the hang-up on, and the system sends it again: that must not break off the clean-up."""
    cleaned_up = False
    with signals_as_interrupt():
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
            cleaned_up = True
    assert cleaned_up


@pytest.mark.parametrize("outages", [2, 4])
def test_an_outage_while_results_come_home_is_waited_for(
    outages: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path)
    said: list[str] = []
    run = a_local_run("plants-1125-abcde")
    ledger.add(run)
    tries: list[str] = []

    def bring_home(run: Run, *_: object) -> Run:
        tries.append(run.run_id)
        if len(tries) <= outages:
            unreachable = MachineUnreachable("machine", "no answer in 60 s")
            raise ResultsNotHome("not home", hint="again") from unreachable
        return run

    monkeypatch.setattr(attempt, "bring_home", bring_home)
    monkeypatch.setattr(attempt, "_OUTAGE_PAUSES_S", (0, 0, 0))
    context = Context(ledger, LocalBackend(tmp_path), Console(said.append))
    if outages == 2:
        assert attempt._insist_on_results(run, context) == run
    else:
        with pytest.raises(ResultsNotHome):
            attempt._insist_on_results(run, context)
    assert len(tries) == min(outages, 3) + 1
    assert said == ["not home; trying again in 0 s, Ctrl-C leaves it"] * min(outages, 3)


class Gone:
    """A provider that has no such machine any more; `told`: its record of the end."""

    def __init__(self, told: datetime | None = None) -> None:
        self._told = told

    def observe(self, _: Run) -> JobState:
        return JobState.ABSENT

    def ended_at(self, _: Run) -> datetime | None:
        return self._told

    def release(self, _: Run) -> datetime:
        return now_utc()

    def billed_elsewhere(self, _: Run) -> None:
        return None


@pytest.mark.parametrize(("told_h", "usd", "high_usd"), [(None, "1.29", "18.06"), (3.0, "3.87", "3.87")])
def test_a_machine_that_ended_itself_is_billed_to_what_is_known_of_it(
    told_h: float | None, usd: str, high_usd: str, tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path)
    since = now_utc() - timedelta(hours=14)
    ledger.add(a_skypilot_run(billed_from=since, last_seen_at=since + timedelta(hours=1), phase=Phase.RUNNING))
    gone = Gone(None if told_h is None else since + timedelta(hours=told_h))
    run = down(ledger.get("r"), Context(ledger, cast("Backend", gone)), force=True)
    assert run.end_is_proven
    cost = cost_of(run, now_utc())
    assert cost.usd == Decimal(usd)
    assert cost.high_usd == pytest.approx(Decimal(high_usd), abs=Decimal("0.002"))
