"""Stop a job, bring its results home and end its bill; the bill counts as ended only once that is proven."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from cloudrun.backends import Backend
from cloudrun.catalog.infras import CAPABILITIES
from cloudrun.errors import CloudrunError, RunNotFinished, StoreError, brief
from cloudrun.forecast.alternatives import alternatives
from cloudrun.forecast.history import measured_of, note
from cloudrun.job.plan import make_plan
from cloudrun.job.spec import JobSpec
from cloudrun.job.staging import base_task
from cloudrun.protocol.outputs import below_out
from cloudrun.protocol.run_folder import STOP, STORED
from cloudrun.protocol.timing import STOP_WAIT_S, STORED_WAIT_S
from cloudrun.runs.accounts import write_accounts
from cloudrun.runs.context import Context
from cloudrun.runs.last_word import read_result
from cloudrun.runs.lost import disk_may_hold_results, stopped_words
from cloudrun.runs.refresh import ending_of, refresh
from cloudrun.runs.results import copy_home, in_lines
from cloudrun.runs.source import is_reachable, is_stored, is_wiped
from cloudrun.state.records import Alternative, JobState, Phase, Result, now_utc
from cloudrun.state.run import Ending, Run
from cloudrun.stores import open_store


class ResultsNotHome(CloudrunError):
    """Ending the machine now would destroy the only copy of the results."""


def down(run: Run, context: Context, *, force: bool) -> Run:
    """Stop the run's job, fetch its results (not with `force`), end its machine, and return the new record.

    Idempotent. Raises ResultsNotHome before anything is lost, StillBilling where the machine's end cannot be proven.
    """
    is_launching = context.ledger.is_launching(run.run_id) and not run.phase.is_final
    if is_launching:
        context.say(f"another command is launching {run.run_id}: it will find it stopped")
        run = context.update(run, lambda run: run.stopped("stopped while it was launched"))
    elif run.released_at is not None or run.billed_from is None:
        if run.billed_from is not None and context.backend.observe(run) in (JobState.ACTIVE, JobState.IDLE):
            context.say(f"the ledger says that {run.run_id} is gone, but its machine is there")
            run = context.update(run, Run.found_alive)
            return down(run, context, force=force)
        if run.store_uri is not None:
            run = refresh(run, context)
            run = run if force else bring_home(run, context)
        return run if run.phase.is_final else context.update(run, Run.stopped)
    job = context.backend.observe(run)
    was_gone = job in (JobState.ABSENT, JobState.STOPPED)
    there = not was_gone and run.run_uri is not None
    if there:
        _stop_job(run, context)
    if job is JobState.STOPPED and not is_launching:
        return _end_stopped(run, context, force=force)
    if there or (run.store_uri is not None and not is_launching):
        run = refresh(run, context)
        if not force:
            run = bring_home(run, context)
    return end_billing(run, context, was_gone=was_gone)


def _end_stopped(run: Run, context: Context, *, force: bool) -> Run:
    """End a machine that its provider has stopped: it answers no question, and its disk still bills."""
    run = refresh(run, context)
    if not force and run.phase is Phase.LOST:
        return end_lost(run, context)
    return end_billing(run, context, was_gone=True)


def end_lost(run: Run, context: Context) -> Run:
    """End what is left of a lost machine. Raises ResultsNotHome where its disk may hold the only copy of results."""
    if run.phase is not Phase.LOST or not run.may_bill:
        return run
    if disk_may_hold_results(run):
        message, hint = stopped_words(run)
        raise ResultsNotHome(message, hint=hint)
    context.say(f"{run.run_id} is lost: {run.message}")
    if run.store_uri is not None and not run.home_complete:
        with suppress(CloudrunError):  # the bucket keeps them
            copy_home(run, context.ledger, to=None)
    return end_billing(context.current(run), context, was_gone=True)


def end_billing(run: Run, context: Context, *, was_gone: bool = False) -> Run:
    """Release the machine, record the proven end, and complete the receipt at home.

    `was_gone`: the machine was gone or stopped before this call. It is then billed until its provider's record of that,
    else until the last moment at which anything proves that it was up. The receipt is made after the end is recorded,
    partly from what the machine wrote: an error there is reported through the console, and does not undo the end.
    Raises StillBilling.
    """
    if run.released_at is not None:
        return run
    what = "the machine of " if CAPABILITIES[run.backend].rents else ""
    context.say(f"ending {what}{run.run_id} ...")
    ending = ending_of(run, context.backend) if was_gone else None
    began = time.monotonic()
    released_at = context.backend.release(run)
    took_s = time.monotonic() - began
    by_itself = Phase.LOST if was_gone and run.run_uri is not None else Phase.STOPPED
    ended, now = ending or Ending(_ended_by(run, context.backend, released_at)), now_utc()
    run = context.update(run, lambda run: run.released(ended, disk_until=released_at, else_phase=by_itself, now=now))
    try:
        account, others = context.backend.billed_elsewhere(run), _on_other_offers(run, context.backend)
        measured = measured_of(note(run, context.ledger, release_s=took_s))
        run = context.update(run, lambda run: run.closed(account, measured, others))
    except Exception as err:  # noqa: BLE001 - the bill has ended: an error in the receipt must not say otherwise
        context.say(f"the receipt of {run.run_id} is not complete: {brief(err)}")
    if run.folder is not None and Path(run.folder).is_dir():
        write_accounts(run, Path(run.folder), context.say)
    return run


def _ended_by(run: Run, backend: Backend, released_at: datetime) -> datetime:
    """Return the end of a released machine: its provider's record of it where there is one, else `released_at`."""
    told = backend.ended_at(run)
    return released_at if told is None or run.billed_from is None else max(min(told, released_at), run.billed_from)


def end_safely(run: Run, context: Context) -> Run:
    """End the machine of a launch that broke, once the results of earlier attempts on it are home.

    Raises ResultsNotHome where these cannot be fetched: the machine then stays up.
    """
    if run.past_phases and run.run_uri is not None and run.may_bill:
        run = bring_home(run, context)
    return end_billing(run, context)


def _on_other_offers(run: Run, backend: Backend) -> tuple[Alternative, ...]:
    """Return what the run would have cost on other offers; none where the catalog cannot be read.

    Called once nothing bills any more.
    """
    try:
        spec = JobSpec.model_validate(run.job)
        if spec.is_own_machine:  # it is there anyway
            return ()
        plan = make_plan(spec, run.run_id, python=sys.executable, base=base_task())
        return alternatives(run, backend.offers(plan, lambda _: None))
    except (CloudrunError, ValidationError):
        return ()


def _stop_job(run: Run, context: Context) -> None:
    """Ask the worker to save and stop, and wait until it has; a job that has ended already is left as it is."""
    assert run.run_uri is not None
    store = open_store(run.run_uri)
    try:
        if isinstance(read_result(store), Result) or not store.is_there():
            return
        store.put(STOP, b"")
        context.say(f"asked {run.run_id} to save and stop ...")
        until = time.monotonic() + STOP_WAIT_S
        while not isinstance(read_result(store), Result) and time.monotonic() < until:
            if context.backend.observe(run) not in (JobState.ACTIVE, JobState.UNKNOWN):
                return
            time.sleep(0.3)
    except StoreError as err:
        context.say(f"the machine of {run.run_id} does not answer: {err.message}")


def bring_home(run: Run, context: Context) -> Run:
    """Fetch the results that are not home yet. Raises ResultsNotHome where that fails: the machine must then stay."""
    if run.home_complete:
        return run
    if run.store_uri is None and is_wiped(run):
        context.say(f"nothing of {run.run_id} is left to bring home: its folder was removed from its machine")
        return run
    began = time.monotonic()
    try:
        listener = in_lines(context.say, lambda entry: context.say(f"fetched {below_out(entry.key)}"))
        folder = copy_home(run, context.ledger, to=None, listener=listener)
    except RunNotFinished:
        _refuse_where_the_machine_has_more(run)
        return run  # the job wrote nothing: there is nothing to lose
    except StoreError as err:
        if _is_surely_stored(run):
            context.say(f"the results could not be fetched ({err.message}); all of them are in {run.store_uri}")
            return run
        if not run.may_bill:
            raise
        raise _not_home(run, err.message) from err
    context.say(f"results in {folder}")
    _refuse_where_the_machine_has_more(context.current(run))
    run = note(context.current(run), context.ledger, upload_s=time.monotonic() - began)
    if run.store_uri is not None and run.home_complete and is_reachable(run):
        _await_the_bucket(run, context)
    return run


def _refuse_where_the_machine_has_more(run: Run) -> None:
    """Raise ResultsNotHome where a machine that does not answer may hold results that are neither home nor stored."""
    if not run.may_bill or run.run_uri is None or run.home_complete:
        return
    if not is_reachable(run) and not is_wiped(run) and not _is_surely_stored(run):
        raise _not_home(run, "its machine does not answer and may hold newer ones")


def _not_home(run: Run, why: str) -> ResultsNotHome:
    return ResultsNotHome(
        f"the results of `{run.run_id}` are not home: {why}; its machine is still up and billing",
        hint=f"try `cloudrun fetch {run.run_id}` again, or leave them behind: `cloudrun down {run.run_id} --force`",
    )


def _await_the_bucket(run: Run, context: Context) -> None:
    """Wait until the bucket has all results, too; not for long, since they are home and the machine bills."""
    assert run.run_uri is not None
    store = open_store(run.run_uri)
    until = time.monotonic() + STORED_WAIT_S
    try:
        while store.read(STORED, limit=1) is None:
            if time.monotonic() > until:
                context.say(f"{run.store_uri} does not have all of it; the results at home are complete")
                return
            time.sleep(0.3)
    except StoreError:
        return  # the machine went away; nothing is lost, the results are home


def _is_surely_stored(run: Run) -> bool:
    try:
        return is_stored(run)
    except StoreError:
        return False
