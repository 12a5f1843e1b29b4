"""Resume a run from its last complete checkpoint: on its machine while that is up, else on a new one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from signal import SIGHUP, SIGTERM

from cloudrun.errors import CloudrunError, Interrupted, RunNotFinished
from cloudrun.interrupts import as_interrupts
from cloudrun.job.plan import Plan
from cloudrun.protocol.checkpoints import can_go_on
from cloudrun.protocol.run_folder import LEAVE, LEFT_BY_AN_ATTEMPT, LOG, RESULT
from cloudrun.protocol.timing import ATTEMPT_ENDS_S, ATTEMPT_GOES_S
from cloudrun.runs.attempt import Started, attend, start
from cloudrun.runs.console import Console
from cloudrun.runs.context import Context
from cloudrun.runs.datasets import store_data
from cloudrun.runs.down import bring_home, end_billing
from cloudrun.runs.lost import disk_may_hold_results
from cloudrun.runs.prepared import Prepared
from cloudrun.runs.refresh import ending_of
from cloudrun.runs.rent import rent
from cloudrun.runs.results import copy_home
from cloudrun.runs.source import is_reachable
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import Estimate, JobState, Quote, now_utc
from cloudrun.state.run import Ending, Run
from cloudrun.stores import open_store


@dataclass(frozen=True, slots=True)
class Estimated:
    """The estimate and the price of the rest of a run; written to the ledger only once the run really goes on."""

    estimate: Estimate | None
    expected: Quote | None


class StillRunning(CloudrunError):
    """The run cannot be resumed now: it has not ended, or its machine has to be ended first."""


def resume(prepared: Prepared, ledger: Ledger, console: Console, *, detach: bool, from_zero: bool = False) -> Run:
    """Resume a run that has ended, and return its record as `launch` does.

    `from_zero`: begin anew where there is no checkpoint, as for a machine that was taken away early.

    Raises StillRunning where the run has not ended or its machine has to be ended first, RunNotFinished where there is
    no checkpoint at home.
    """
    run = prepared.resumes
    assert run is not None, "it was prepared to be resumed"
    if not run.phase.is_final:
        raise StillRunning(f"`{run.run_id}` is {run.phase.value}", hint=f"`cloudrun logs {run.run_id}` follows it")
    context = Context(ledger, prepared.backend, console)
    plan = store_data(prepared.plan, context.state_folder, console.say, console.on_bytes)
    with context.ledger.launching(run.run_id), as_interrupts((SIGTERM, SIGHUP)):
        if not context.current(run).phase.is_final:  # another command was quicker
            raise StillRunning(f"`{run.run_id}` goes on already", hint=f"`cloudrun logs {run.run_id}` follows it")
        estimated = Estimated(prepared.forecast.estimate, prepared.forecast.quote)
        if is_reachable(run):
            _refuse_other_nodes(run, plan)
            context.say("its machine is up: going on there")
            started = _go_on_here(run, plan, context, estimated)
        else:
            started = _go_on_elsewhere(run, plan, context, estimated, from_zero=from_zero)
        started = Started(context.update(run, Run.left_to_itself), started.reader)
    return attend(started, plan, context, detach=detach)


def _refuse_other_nodes(run: Run, plan: Plan) -> None:
    if plan.spec.nodes != run.nodes:
        raise StillRunning(
            f"`{run.run_id}` has {run.nodes} machine(s), which are up, and `nodes` is {plan.spec.nodes}",
            hint=f"`cloudrun down {run.run_id}` first: the results come home, and it goes on with others",
        )


def _go_on_here(run: Run, plan: Plan, context: Context, estimated: Estimated) -> Started:
    context.update(run, Run.watched)  # from here on only this command watches the machine
    try:
        shown = _make_way(run, plan, context)
    except KeyboardInterrupt:
        context.say("interrupted: ending the machine, once its results are home")
        _give_up(run, context)
        raise Interrupted(
            f"interrupted; `{run.run_id}` is ended and nothing is billing", hint=f"`cloudrun resume {run.run_id}`"
        ) from None
    except Exception as err:
        context.say(f"it cannot go on: {err}")
        _give_up(run, context)
        raise
    context.update(run, lambda run: _reopened(run, plan, estimated))
    return start(plan, context, log_shown=shown)


def _give_up(run: Run, context: Context) -> None:
    end_billing(bring_home(context.current(run), context), context)


def _make_way(run: Run, plan: Plan, context: Context) -> int:
    """End the last attempt on the machine and remove its files, which the next could take for its own.

    Returns the size of the log in bytes.
    """
    assert run.run_uri is not None
    store = open_store(run.run_uri)
    store.put(LEAVE, b"")  # the last attempt's watchdog may still wait: it ends, and leaves the machine up
    time.sleep(ATTEMPT_ENDS_S)
    waits = run.store_uri is not None or run.nodes > 1
    until = time.monotonic() + (ATTEMPT_GOES_S if waits else 0.0)
    while time.monotonic() < until and context.backend.observe(run) is JobState.ACTIVE:
        time.sleep(0.5)
    shown = len(store.read(LOG) or b"")
    store.remove(LEFT_BY_AN_ATTEMPT)
    _forget_last_result(plan)
    return shown


def _go_on_elsewhere(
    run: Run, plan: Plan, context: Context, estimated: Estimated, *, from_zero: bool = False
) -> Started:
    if run.store_uri is not None and not run.home_complete:
        context.say(f"fetching what {run.store_uri} has ...")
        run = _fetched(run, context)
    home = Path(run.folder) if run.folder else None
    if home is None or not (from_zero or can_go_on(home)):
        raise RunNotFinished(
            f"`{run.run_id}` has no checkpoint at home to go on from",
            hint=f"start anew: `cloudrun launch {run.job_path}`",
        )
    if run.may_bill:  # the machine does not answer, or is stopped: close its bill before the next is opened
        job = context.backend.observe(run)
        _refuse_to_lose(run, job)
        ending = ending_of(run, context.backend) if job in (JobState.ABSENT, JobState.STOPPED) else None
        released_at = context.backend.release(run)
        run = run.gone(ending or Ending(released_at))
    _forget_last_result(plan)
    earlier = run.closed_intervals(run.released_at or now_utc())
    context.update(run, lambda run: _reopened(run, plan, estimated).without_machine(earlier))
    try:
        rent(plan, context)
    except BaseException:  # the results at home are still the newest: a bucket that lagged behind must not replace them
        is_complete = run.home_complete
        context.update(run, lambda run: run.still_home(is_complete=is_complete))
        raise
    log = home / LOG
    return start(plan, context, results=home, log_shown=log.stat().st_size if log.exists() else 0)


def _fetched(run: Run, context: Context) -> Run:
    try:
        copy_home(run, context.ledger, to=None)
    except RunNotFinished:
        return run  # the bucket has nothing: the results at home have to do
    return context.current(run)


def _refuse_to_lose(run: Run, job: JobState) -> None:
    """Raise StillRunning where the machine may hold results that are not home: it does not answer, or is stopped."""
    if run.home_complete or job is JobState.ABSENT:
        return
    if job is JobState.STOPPED and not disk_may_hold_results(run):
        return
    raise StillRunning(
        f"the machine of `{run.run_id}` does not answer, and may hold newer results than those at home",
        hint=f"try again; or end it first, and lose them: `cloudrun down {run.run_id} --force`",
    )


def _forget_last_result(plan: Plan) -> None:
    """Remove the last attempt's result from the bucket, where it would be taken for the result of the next one."""
    if plan.store_uri is not None:
        open_store(plan.store_uri, endpoint=plan.spec.endpoint).remove([RESULT])


def _reopened(run: Run, plan: Plan, estimated: Estimated) -> Run:
    return run.reopened(plan.assignment).estimated(estimated.estimate, estimated.expected)
