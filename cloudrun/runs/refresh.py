"""Bring the ledger's record of a run up to date from what the run itself says."""

from __future__ import annotations

from cloudrun.backends import Backend
from cloudrun.errors import StoreError
from cloudrun.runs.context import Context
from cloudrun.runs.last_word import BadResult, last_word, read_progress, read_result
from cloudrun.runs.source import bucket_of, is_wiped
from cloudrun.state.records import JobState, Progress, Result, now_utc
from cloudrun.state.run import Ending, Run, Sighting, derive_phase, ending_of_gone
from cloudrun.stores import open_store

WIPED = "its folder was removed from its machine"


def refresh(run: Run, context: Context) -> Run:
    """Ask the machine and the run's files once, and record the answer. Final phases stay as they are.

    A run that another command is launching right now is left to that command.
    """
    if (run.phase.is_final and not run.may_bill) or context.ledger.is_launching(run.run_id):
        return run
    return look(run, context)


def look(run: Run, context: Context) -> Run:
    """Do as `refresh`, for a command that itself launches or follows the run."""
    job = context.backend.observe(run)
    progress, result = None, None
    if run.run_uri is not None and job not in (JobState.ABSENT, JobState.STOPPED):
        try:
            store = open_store(run.run_uri)
            result = last_word(store, run, may_go_on=job is not JobState.IDLE)
            progress = read_progress(store)
        except StoreError:
            job = JobState.UNKNOWN
    bucket = bucket_of(run)
    if bucket is not None and job in (JobState.ABSENT, JobState.STOPPED, JobState.UNKNOWN):
        try:
            found, progress = read_result(bucket), read_progress(bucket)
            if isinstance(found, BadResult):  # while the machine does not answer, the job may go on
                found = last_word(bucket, run, may_go_on=False) if job is not JobState.UNKNOWN else None
            result = found
        except StoreError:
            return _only_the_machine(run, context, job)
    if result is None and progress is None:
        if job is JobState.UNKNOWN:
            return run
        if job in (JobState.ACTIVE, JobState.IDLE) and is_wiped(run):
            return record(run, context, JobState.IDLE, None, None, why=WIPED)
    return record(run, context, job, progress, result)


def _only_the_machine(run: Run, context: Context, job: JobState) -> Run:
    """Record the end of the bill of a machine that is gone, where the bucket did not answer.

    Without the bucket nobody knows whether the run is lost, so its phase stays.
    """
    if job is JobState.ABSENT and run.may_bill:
        ending = ending_of(run, context.backend)
        return context.update(run, lambda run: run.gone(ending))
    return run


def ending_of(run: Run, backend: Backend) -> Ending:
    """Return when the bill ended of a machine that is found gone or stopped now. Asks its provider."""
    return ending_of_gone(run, now_utc(), told=backend.ended_at(run))


def record(  # noqa: PLR0913 - all that one look can find
    run: Run, context: Context, job: JobState, progress: Progress | None, result: Result | None, *, why: str = ""
) -> Run:
    """Write what a look at the run has found into the ledger, and return the new record.

    `why`: the reason why the job left no result, where that is known. `run`: the record from before the look, which can
    take minutes; what another command has written since then stays.
    """
    ends = result is None and derive_phase(run.phase, job, progress, result).is_final and not run.phase.is_final
    if not why:
        why = context.backend.diagnose(run) if ends and job is JobState.IDLE else _WHY_LOST.get(job, "")
    told = context.backend.ended_at(run) if job in (JobState.ABSENT, JobState.STOPPED) and run.may_bill else None
    seen = Sighting(now_utc(), job, progress, result, why=why, ended_at=told)

    def step(now: Run) -> Run:
        return now.looked_at(seen) if now.attempt == run.attempt else now  # else the run was resumed meanwhile

    try:
        return context.update(run, step)
    except OSError:  # a full disk: what was seen is still true, and the next look writes it
        return step(run)


_WHY_LOST = {
    JobState.ABSENT: "the machine is gone",
    JobState.STOPPED: "its provider stopped the machine (outbid, an account without money, or somebody at its console)",
}
