"""Bring the ledger's record of a run up to date from what the run itself says."""

from __future__ import annotations

from datetime import datetime

from cloudrun.backends import Backend
from cloudrun.cost import Ending, ending_of_gone
from cloudrun.errors import StoreError
from cloudrun.ledger import Ledger, with_changes
from cloudrun.run import JobState, Progress, Result, Run, derive_phase, now_utc
from cloudrun.runs.last_word import BadResult, last_word, read_progress, read_result
from cloudrun.runs.source import bucket_of, is_wiped
from cloudrun.stores import open_store

_LONGEST_REASON = 500
WIPED = "its folder was removed from its machine"


def refresh(run: Run, ledger: Ledger, backend: Backend) -> Run:
    """Ask the machine and the run's files once, and record the answer. Final phases stay as they are.

    A run that another command is launching right now is left to that command.
    """
    if (run.phase.is_final and not run.may_bill) or ledger.is_launching(run.run_id):
        return run
    return look(run, ledger, backend)


def look(run: Run, ledger: Ledger, backend: Backend) -> Run:
    """As `refresh`, for whoever is launching or following the run."""
    job = backend.observe(run)
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
            if isinstance(found, BadResult):  # with a machine that does not answer, the job may go on
                found = last_word(bucket, run, may_go_on=False) if job is not JobState.UNKNOWN else None
            result = found
        except StoreError:
            return _only_the_machine(run, ledger, backend, job)
    if result is None and progress is None:
        if job is JobState.UNKNOWN:
            return run
        if job in (JobState.ACTIVE, JobState.IDLE) and is_wiped(run):
            return record(run, ledger, backend, JobState.IDLE, None, None, why=WIPED)
    return record(run, ledger, backend, job, progress, result)


def _only_the_machine(run: Run, ledger: Ledger, backend: Backend, job: JobState) -> Run:
    """The bucket could not be asked, so whether the run is lost is not known; that its bill has ended is."""
    if job is JobState.ABSENT and run.may_bill:
        return ledger.change(run.run_id, **ending_of(run, backend).as_fields())
    return run


def ending_of(run: Run, backend: Backend) -> Ending:
    """When the bill of a machine ended that is found gone or stopped now; its provider is asked."""
    return ending_of_gone(run, now_utc(), told=backend.ended_at(run))


def record(
    run: Run,
    ledger: Ledger,
    backend: Backend,
    job: JobState,
    progress: Progress | None,
    result: Result | None,
    *,
    why: str = "",
) -> Run:
    """Write what was seen into the ledger; returns the new record. `why` it left no result, where that is known.

    `run` is as it was before the look, which can take minutes: what another command has written since stays.
    """
    ends = result is None and derive_phase(run.phase, job, progress, result).is_final and not run.phase.is_final
    if not why:
        why = backend.diagnose(run) if ends and job is JobState.IDLE else _WHY_LOST.get(job, "")
    told = backend.ended_at(run) if job in (JobState.ABSENT, JobState.STOPPED) and run.may_bill else None
    seen_at = now_utc()
    proof = _last_proof(job, progress, result, seen_at)

    def changes(now: Run) -> dict[str, object]:
        if now.shift != run.shift:
            return {}  # it was resumed meanwhile, and this is of the shift before
        written: dict[str, object] = {"phase": derive_phase(now.phase, job, progress, result), "refreshed_at": seen_at}
        seen = max((moment for moment in (now.last_seen_at, proof) if moment is not None), default=None)
        written["last_seen_at"] = seen
        if progress is not None:
            written.update(_of_progress(progress))
        if result is not None:
            written.update(_of_result(result))
        elif ends and not now.phase.is_final:
            written.update(
                finished_at=seen_at,
                exit_code=1,
                message=f"it left no result: {why[:_LONGEST_REASON] or 'it was killed'}",
            )
        if job is JobState.STOPPED and now.may_bill and now.stopped_at is None:
            written["stopped_at"] = ending_of_gone(now.model_copy(update={"last_seen_at": seen}), seen_at, told=told).at
        if job in (JobState.ACTIVE, JobState.IDLE) and now.stopped_at is not None:
            written["stopped_at"] = None  # it was started again
        if job is JobState.ABSENT and now.may_bill:
            written.update(
                ending_of_gone(now.model_copy(update={"last_seen_at": seen}), seen_at, told=told).as_fields()
            )
        return written

    try:
        return ledger.update(run.run_id, changes)
    except OSError:  # a full disk: what was seen is still true, and the next look writes it
        return with_changes(run, changes(run))


_WHY_LOST = {
    JobState.ABSENT: "the machine is gone",
    JobState.STOPPED: "its provider stopped the machine (outbid, an account without money, or somebody at its console)",
}


def _last_proof(job: JobState, progress: Progress | None, result: Result | None, now: datetime) -> datetime | None:
    """The last moment at which what was read just now proves that the machine was up."""
    if job in (JobState.ACTIVE, JobState.IDLE):
        return now
    moments = [progress.heartbeat_at] if progress is not None else []
    moments += [result.finished_at] if result is not None else []
    known = [moment for moment in moments if moment <= now]
    return max(known).replace(microsecond=0) if known else None


def _of_progress(progress: Progress) -> dict[str, object]:
    known: dict[str, object] = {"epoch": progress.epoch, "epochs": progress.epochs, "eta_s": progress.eta_s}
    if progress.projected_s is not None:
        known.update(
            projected_s=progress.projected_s,
            projected_usd=progress.projected_usd,
            projection_rests_on=progress.rests_on,
        )
    return known


def _of_result(result: Result) -> dict[str, object]:
    return {
        "started_at": result.started_at,
        "finished_at": result.finished_at,
        "exit_code": result.exit_code,
        "message": result.message,
        "phases": result.phases,
        "eta_s": 0.0,
    }
