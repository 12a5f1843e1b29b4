"""The last minutes of a launch: what interrupts it, and what must not."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import cast

import pytest

from cloudrun.backends import Backend
from cloudrun.backends.local import LocalBackend
from cloudrun.billing.cost import cost_of
from cloudrun.interrupts import as_interrupts
from cloudrun.remote.ssh import MachineUnreachable
from cloudrun.runs import attempt
from cloudrun.runs.console import Console
from cloudrun.runs.context import Context
from cloudrun.runs.down import ResultsNotHome, down
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import JobState, Phase, now_utc
from cloudrun.state.run import Run
from tests.support.runs import a_local_run, a_skypilot_run
from tests.support.shell import Shell


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_closed_terminal_is_one_interrupt_however_often_it_is_said(number: signal.Signals) -> None:
    """A shell passes the hang-up on, and the system sends it again: that must not break off the clean-up."""
    cleaned_up = False
    with as_interrupts():
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


@pytest.mark.parametrize("seed", range(6))
def test_a_signal_at_any_moment_ends_a_command_with_one_line(shell: Shell, seed: int) -> None:
    """From the moment from which the process hears signals: before, it's Python that starts, and not cloudrun."""
    chance = random.Random(seed)
    job = shell.job("name: a\ninfra: local\ndata: {source: .}\nrun: echo\n")
    for words in (["ps"], ["gpus"], ["check", job], ["launch", "--dry-run", job]):
        number = chance.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        with shell.start(*words) as command:
            while not hears(command, signal.SIGHUP):  # the last one that it gets a handler for
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 1.2))
            command.send_signal(number)
            _, said = command.communicate(timeout=60)
        told = (seed, words, number, command.returncode, said)
        assert "Traceback" not in said, told
        # Else it had answered before; and when Python takes itself down, signals do what they do to any process.
        if command.returncode not in (0, -number):
            assert command.returncode == 130, told
            assert said.strip().splitlines()[-1] == "interrupted; `cloudrun ps` shows what bills", told
            assert len(said.strip().splitlines()) == 1 or words[0] != "ps", told


def hears(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal, or has ended."""
    try:
        (mask,) = (line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "SigCgt" in line)
    except (FileNotFoundError, ValueError):
        return True
    return process.poll() is not None or bool(int(mask.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whoever_follows_is_told_by_a_signal_that_the_job_goes_on(shell: Shell, number: signal.Signals) -> None:
    job = shell.job("name: long\ninfra: local\ndata: {source: .}\nrun: echo begun-$((1+1)); sleep 300\n")
    with shell.start("launch", "--yes", job) as launch:
        assert launch.stderr is not None
        for line in launch.stderr:
            if "begun-2" in line:
                break
        launch.send_signal(number)
        said = launch.stderr.read()
    assert launch.returncode == 130, said
    (run,) = Ledger(shell.home).all()
    assert f"interrupted; `{run.run_id}` goes on" in said
    assert f"`cloudrun down {run.run_id}` stops it and ends the bill" in said
    assert run.may_bill


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with as_interrupts():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_block_inside_of_another_leaves_the_signals_to_that() -> None:
    with pytest.raises(KeyboardInterrupt), as_interrupts() as outer, as_interrupts((signal.SIGTERM,)) as inner:
        signal.raise_signal(signal.SIGTERM)
    assert (outer.was_met(), inner.was_met()) == (True, False)
