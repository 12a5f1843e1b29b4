"""One attempt on a machine that is rented: start the worker, send the data, follow, bring home, end the bill."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from cloudrun.billing.cost import cost_of
from cloudrun.errors import Interrupted
from cloudrun.forecast.estimate import after_s
from cloudrun.forecast.history import note
from cloudrun.job.notify import keep_addresses
from cloudrun.job.plan import DataRoute, Plan
from cloudrun.job.staging import stage, stage_checkpoint
from cloudrun.protocol.run_folder import DATA_READY
from cloudrun.protocol.words import OnFinish
from cloudrun.remote.ssh import MachineUnreachable
from cloudrun.retry import tries
from cloudrun.runs.context import Context
from cloudrun.runs.down import ResultsNotHome, bring_home, end_billing, end_lost
from cloudrun.runs.follow import LogReader, follow
from cloudrun.runs.sending import Sending
from cloudrun.runs.undo import fail, undone
from cloudrun.state.records import Phase, now_utc
from cloudrun.state.run import Run
from cloudrun.stores import open_store

# Five minutes of pauses: some ten minutes in all, since each try at a machine that does not answer takes time to fail.
_OUTAGE_PAUSES_S = (5, 10, 20, 40, 60, 60, 60, 60)


@dataclass(frozen=True, slots=True)
class Started:
    """A run whose worker is alive, and how far its log has been shown."""

    run: Run
    reader: LogReader


def start(
    plan: Plan,
    context: Context,
    *,
    results: Path | None = None,
    log_shown: int = 0,
) -> Started:
    """Start the worker on the rented machine, then send the data: the budget is watched before the first byte is sent.

    `results`: the folder at home of a resumed run, from which a new machine gets the checkpoint. `log_shown`: bytes of
    the log that come from earlier attempts and are not shown again. Where the start fails or is interrupted, the
    machine is ended before the error is raised.
    """
    run = context.ledger.get(plan.run_id)
    staged = context.state_folder / "staging" / plan.run_id
    _clear_staging(staged.parent, context)
    assert run.quote is not None
    try:
        keep_addresses(plan.spec.notify)
        stage(plan, staged)
        if results is not None:
            stage_checkpoint(results, staged)
        so_far = cost_of(run, now_utc())
        order = plan.order(
            infra=run.quote.infra,
            hourly_usd=run.quote.total_hourly_usd,
            billed_s=so_far.hours * 3600,
            spent_usd=float(so_far.usd),
            written_at=time.time(),
            after_s=after_s(run.estimate) if run.estimate is not None else 0.0,
            may_ask=context.console.ask is not None,
        )
        uri = context.backend.start(plan, staged, order)
        run = context.update(run, lambda run: run.begun(uri))
        reader = LogReader(open_store(uri), log_shown)
        if plan.data_route is DataRoute.PUSHED:
            run = send_data(run, plan, context, reader)
    except KeyboardInterrupt:
        raise undone(run, context, "before the job had its data") from None
    except Exception as err:
        fail(run, context, err)
        raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return Started(run, reader)


def _clear_staging(folder: Path, context: Context) -> None:
    """Remove what launches have left that were killed while they staged their code."""
    for left in folder.glob("*"):
        if not context.ledger.is_launching(left.name):
            shutil.rmtree(left, ignore_errors=True)


def attend(started: Started, plan: Plan, context: Context, *, detach: bool) -> Run:
    """Follow a started run to its end: show its log, fetch its results, end its bill. Return its record then.

    With `detach`, return at once unless the run has ended already. Raises Interrupted on Ctrl-C: the job goes on.
    """
    run = started.run
    if detach and not run.phase.is_final:
        return run
    try:
        run = follow(run, context, reader=started.reader, answers_questions=True)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted; `{run.run_id}` goes on" + (" and bills" if run.quote and run.quote.hourly_usd else ""),
            hint=f"`cloudrun logs {run.run_id}` follows it, `cloudrun down {run.run_id}` stops it and ends the bill",
        ) from None
    return _settle(run, OnFinish(plan.spec.lifecycle.on_finish), context)


def _settle(run: Run, on_finish: OnFinish, context: Context) -> Run:
    """Fetch the results of a job that has ended, then end or keep its machine, as `on_finish` says."""
    attempt = run.attempt
    if run.phase is Phase.LOST and run.may_bill:
        return end_lost(run, context)
    try:
        if run.released_at is None or run.store_uri is not None:
            run = _insist_on_results(run, context)
    finally:
        if context.current(run).attempt != attempt:
            raise Interrupted(
                f"`{run.run_id}` was resumed by another command, which has its machine now",
                hint=f"`cloudrun logs {run.run_id}` follows it",
            )
    if on_finish is OnFinish.KEEP:
        context.say(f"the machine stays up; `cloudrun down {run.run_id}` ends its bill")
        return run
    return end_billing(run, context)


def _insist_on_results(run: Run, context: Context) -> Run:
    """Do as `bring_home`, and wait through an outage of minutes: giving up would leave a machine that bills."""
    for pause_s in tries(_OUTAGE_PAUSES_S):
        try:
            return bring_home(context.current(run), context)
        except ResultsNotHome as err:
            if pause_s is None or not isinstance(err.__cause__, MachineUnreachable | None):
                raise
            context.say(f"{err.message}; trying again in {pause_s:g} s, Ctrl-C leaves it")
    raise AssertionError


def send_data(run: Run, plan: Plan, context: Context, reader: LogReader) -> Run:
    """Push the images while the machine sets itself up, and show its log meanwhile. Return the new record."""
    assert run.run_uri is not None
    store = open_store(run.run_uri)
    sending = Sending(store, Path(plan.spec.data.source), context.console.on_bytes)
    sending.start()
    try:
        run = follow(run, context, reader=reader, until=sending.has_ended)
    finally:
        sending.cancel()  # does nothing where the transfer has ended
        sending.join()
    if run.phase.is_final:  # set-up failed, or there is no GPU: the rest of the data is of no use
        return run
    if sending.error is not None:
        raise sending.error
    assert sending.has_succeeded
    store.put(DATA_READY, b"")
    if run.past_phases:  # resumed: most of the data was there already, so its time tells nothing
        return run
    return note(run, context.ledger, sync_bytes=sending.sent_bytes, sync_s=sending.took_s)
