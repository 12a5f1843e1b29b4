"""launch: record, rent, start the worker, send the data, follow, bring home, end the bill. In this order."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cloudrun.backends import Backend
from cloudrun.cost import cost_of
from cloudrun.errors import Interrupted
from cloudrun.estimate import after_s
from cloudrun.job_file import Job
from cloudrun.ledger import Ledger
from cloudrun.plan import DataRoute, Plan
from cloudrun.protocol.run_folder import DATA_READY
from cloudrun.protocol.words import OnFinish
from cloudrun.records import Estimate, Phase, Quote, now_utc
from cloudrun.retry import tries
from cloudrun.run import Run, new_run
from cloudrun.runs.console import Console
from cloudrun.runs.down import ResultsNotHome, bring_home, end_billing, end_lost
from cloudrun.runs.follow import LogReader, follow
from cloudrun.runs.measure import note
from cloudrun.runs.rent import rent
from cloudrun.runs.sending import Sending
from cloudrun.runs.undo import fail, undone
from cloudrun.snapshot import stage, stage_checkpoint
from cloudrun.ssh import MachineUnreachable
from cloudrun.stores import open_store

# Some ten minutes, as a machine that does not answer takes its time to say so.
_OUTAGE_PAUSES_S = (5, 10, 20, 40, 60, 60, 60, 60)


def launch(
    job: Job,
    plan: Plan,
    ledger: Ledger,
    backend: Backend,
    *,
    detach: bool,
    console: Console,
    estimate: Estimate | None = None,
    expected: Quote | None = None,
) -> Run:
    """Execute `plan`. Returns when the job has ended and the bill with it, or, detached, when it trains by itself."""
    run = new_run(
        plan.run_id,
        plan.spec.name,
        plan.assignment,
        job_path=str(job.path.absolute()),
        folder=str(Path("runs").absolute() / plan.run_id),
        now=now_utc(),
    ).foretold(estimate, expected)
    with ledger.launching(run.run_id), signals_as_interrupt():
        ledger.add(run)
        rent(plan, ledger, backend, console)
        started = start(plan, ledger, backend, console)
        started = Started(ledger.update(run.run_id, Run.left_to_itself), started.reader)
    return attend(started, plan, ledger, backend, console, detach=detach)


@contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """While a machine is being rented, a closed terminal or a `kill` is met as Ctrl-C is: the machine goes.

    Once: a shell passes the hang-up of its terminal on, and the system sends it again. That ends no clean-up.
    """

    is_met = False

    def interrupt(*_: object) -> None:
        nonlocal is_met
        if not is_met:
            is_met = True
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True)
class Started:
    """A run whose worker is alive, and how far its log has been shown."""

    run: Run
    reader: LogReader


def start(
    plan: Plan,
    ledger: Ledger,
    backend: Backend,
    console: Console,
    *,
    home: Path | None = None,
    log_shown: int = 0,
) -> Started:
    """Worker first, data second: the budget is watched before the first byte is sent.

    `home` is the folder of a run that goes on, from which a fresh machine gets its checkpoint;
    `log_shown` bytes of its log are from earlier.
    """
    run = ledger.get(plan.run_id)
    staged = ledger.home / "staging" / plan.run_id
    assert run.quote is not None
    try:
        stage(plan, staged)
        if home is not None:
            stage_checkpoint(home, staged)
        so_far = cost_of(run, now_utc())
        order = plan.order(
            infra=run.quote.infra,
            hourly_usd=run.quote.total_hourly_usd,
            billed_s=so_far.hours * 3600,
            spent_usd=float(so_far.usd),
            written_at=time.time(),
            after_s=after_s(run.estimate) if run.estimate is not None else 0.0,
            may_ask=console.ask is not None,
        )
        uri = backend.start(plan, staged, order)
        run = ledger.update(run.run_id, lambda run: run.begun(uri))
        reader = LogReader(open_store(uri), log_shown)
        if plan.data_route is DataRoute.PUSHED:
            run = send_data(run, plan, ledger, backend, console, reader)
    except KeyboardInterrupt:
        raise undone(run, ledger, backend, console, "before the job had its data") from None
    except Exception as err:
        fail(run, ledger, backend, console, err)
        raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return Started(run, reader)


def attend(started: Started, plan: Plan, ledger: Ledger, backend: Backend, console: Console, *, detach: bool) -> Run:
    """Stay with a started run to its end: log, results, bill. Detached, only with one that has ended already."""
    run = started.run
    if detach and not run.phase.is_final:
        return run
    try:
        run = follow(
            run, ledger, backend, on_line=console.on_line, reader=started.reader, ask=console.ask, say=console.say
        )
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted; `{run.run_id}` goes on" + (" and bills" if run.quote and run.quote.hourly_usd else ""),
            hint=f"`cloudrun logs {run.run_id}` follows it, `cloudrun down {run.run_id}` stops it and ends the bill",
        ) from None
    return _settle(run, plan.spec.lifecycle.on_finish, ledger, backend, console)


def _settle(run: Run, on_finish: str, ledger: Ledger, backend: Backend, console: Console) -> Run:
    """The job has ended: results home, then the machine as the job's lifecycle says."""
    attempt = run.attempt
    if run.phase is Phase.LOST and run.may_bill:
        return end_lost(run, ledger, backend, say=console.say)
    try:
        if run.released_at is None or run.store_uri is not None:
            run = _insist_on_results(run, ledger, console)
    finally:
        if ledger.get(run.run_id).attempt != attempt:
            raise Interrupted(
                f"`{run.run_id}` was resumed by another command, which has its machine now",
                hint=f"`cloudrun logs {run.run_id}` follows it",
            )
    if on_finish == OnFinish.KEEP:
        console.say(f"the machine stays up; `cloudrun down {run.run_id}` ends its bill")
        return run
    return end_billing(run, ledger, backend, say=console.say)


def _insist_on_results(run: Run, ledger: Ledger, console: Console) -> Run:
    """As `bring_home`, but an outage of minutes is waited for: whoever gave up would leave a machine that bills."""
    for pause_s in tries(_OUTAGE_PAUSES_S):
        try:
            return bring_home(ledger.get(run.run_id), ledger, console.say)
        except ResultsNotHome as err:
            if pause_s is None or not isinstance(err.__cause__, MachineUnreachable | None):
                raise
            console.say(f"{err.message}; trying again in {pause_s:g} s, Ctrl-C leaves it")
    raise AssertionError


def send_data(run: Run, plan: Plan, ledger: Ledger, backend: Backend, console: Console, reader: LogReader) -> Run:
    """Push the images while the machine sets itself up; its log is shown as it comes."""
    assert run.run_uri is not None
    store = open_store(run.run_uri)
    sending = Sending(store, Path(plan.spec.data.source), console.on_bytes)
    sending.start()
    try:
        run = follow(run, ledger, backend, on_line=console.on_line, reader=reader, until=sending.has_ended)
    finally:
        sending.cancel()  # nothing to cancel where it has ended
        sending.join()
    if run.phase.is_final:  # set-up failed, or there is no GPU: no use in sending on
        return run
    if sending.error is not None:
        raise sending.error
    assert sending.has_succeeded
    store.put(DATA_READY, b"")
    if run.past_phases:  # most of it was there already
        return run
    return note(run, ledger, sync_bytes=sending.sent_bytes, sync_s=sending.took_s)
