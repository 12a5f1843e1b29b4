"""Interrupted launches: a launch of the same job goes on with them, a launch of another job ends them."""

from __future__ import annotations

from signal import SIGHUP, SIGTERM

from cloudrun.errors import StoreError
from cloudrun.files.untrusted import LARGEST_DOCUMENT_BYTES, Unreadable, parse_object
from cloudrun.interrupts import as_interrupts
from cloudrun.job.job_file import Job
from cloudrun.job.plan import DataRoute, Plan
from cloudrun.protocol.run_folder import DATA_READY, ORDER, STATUS
from cloudrun.runs.attempt import Started, attend, send_data, start
from cloudrun.runs.console import Console
from cloudrun.runs.context import Context
from cloudrun.runs.down import end_safely
from cloudrun.runs.follow import LogReader
from cloudrun.runs.refresh import ending_of
from cloudrun.runs.rent import rent
from cloudrun.state.ledger import BeingLaunched, Ledger
from cloudrun.state.records import JobState
from cloudrun.state.run import Ending, Run
from cloudrun.stores import open_store


def find_interrupted(job: Job, ledger: Ledger) -> Run | None:
    """Return the newest interrupted run of the same job file with the same content; None where there is none.

    Resumed runs are left out: their machines hold results of earlier attempts, which have to come home first.
    """
    for run in reversed(ledger.interrupted()):
        if not run.past_phases and run.job_path == str(job.path.absolute()) and run.job == job.spec.as_plain():
            return run
    return None


def end_interrupted(ledger: Ledger, console: Console, *, but: Run | None) -> None:
    """End the machines of interrupted launches, except for the run `but`.

    A run whose worker has all that it needs goes on. Raises StillBilling, or ResultsNotHome where a machine holds
    results that cannot be fetched.
    """
    for run in ledger.interrupted():
        if but is not None and run.run_id == but.run_id:
            continue
        if _has_all_it_needs(run):
            ledger.update(run.run_id, Run.left_to_itself)  # the job goes on by itself
            continue
        console.say(f"the launch of {run.run_id} was cut short, and its machine may be billing")
        if not run.phase.is_final:
            run = ledger.update(run.run_id, lambda run: run.stopped("its launch was cut short"))
        end_safely(run, Context.of(run.backend, ledger, console))


def reattach(run: Run, plan: Plan, context: Context, *, detach: bool) -> Run:
    """Go on with an interrupted launch: on the machine that it left, else on a new one once the old one is gone.

    Raises BeingLaunched where another command has gone on with the run meanwhile.
    """
    with context.ledger.launching(run.run_id), as_interrupts((SIGTERM, SIGHUP)):
        run = context.current(run)  # it may have changed while a question waited for its answer
        if run.handed_over or not run.may_bill:
            raise BeingLaunched(
                f"another command has gone on with `{run.run_id}` meanwhile",
                hint=f"`cloudrun logs {run.run_id}` follows it; the same `cloudrun launch` again starts another run",
            )
        context.update(run, Run.going_on)
        started = _go_on(run, plan, context)
        started = Started(context.update(run, Run.left_to_itself), started.reader)
    return attend(started, plan, context, detach=detach)


def _go_on(run: Run, plan: Plan, context: Context) -> Started:
    job = context.backend.observe(run)
    if run.run_uri is None and job in (JobState.IDLE, JobState.UNKNOWN):
        # Renting under the same name gives the machine that exists, or the one that is just being made.
        context.say(f"going on with {run.run_id} on the machine that its launch left")
        rent(plan, context)
        return start(plan, context)
    if job is JobState.ACTIVE and run.run_uri is not None:
        reader = LogReader(open_store(run.run_uri))
        if plan.data_route is not DataRoute.PUSHED or _has_all_it_needs(run):
            context.say(f"going on with {run.run_id}, which runs")
            return Started(context.update(run, Run.preparing), reader)
        context.say(f"going on with {run.run_id}: its machine waits for the data")
        context.update(run, Run.preparing)
        return Started(send_data(run, plan, context, reader), reader)
    context.say(f"the machine that the launch of {run.run_id} left is of no use: ending it before another is rented")
    ending = ending_of(run, context.backend) if job in (JobState.ABSENT, JobState.STOPPED) else None
    released_at = context.backend.release(run)
    ended = ending or Ending(released_at)
    earlier = run.gone(ended).closed_intervals(ended.at)
    context.update(run, lambda run: run.without_machine(earlier))
    rent(plan, context)
    return start(plan, context)


def _has_all_it_needs(run: Run) -> bool:
    """Return whether the run's worker has started and has its data: such a job goes on without this computer."""
    if run.run_uri is None:
        return False
    store = open_store(run.run_uri)
    try:
        order = store.read(ORDER, limit=LARGEST_DOCUMENT_BYTES + 1)
        if order is None or store.read(STATUS, limit=1) is None:
            return False
        return store.read(DATA_READY, limit=1) is not None or not parse_object(order)["data_arrives"]
    except (StoreError, Unreadable, KeyError):
        return False
