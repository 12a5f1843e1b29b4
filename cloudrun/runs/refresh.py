"""Bring the ledger's record of a run up to date from what the run itself says."""

from __future__ import annotations

from cloudrun.backends import Backend
from cloudrun.cost import latest_end
from cloudrun.errors import StoreError
from cloudrun.ledger import Ledger, with_changes
from cloudrun.run import JobState, Progress, Result, Run, derive_phase, now_utc
from cloudrun.runs.last_word import BadResult, last_word, read_progress, read_result
from cloudrun.runs.source import bucket_of
from cloudrun.stores import open_store

_LONGEST_REASON = 500


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
    if run.run_uri is not None and job is not JobState.ABSENT:
        try:
            store = open_store(run.run_uri)
            result = last_word(store, run, may_go_on=job is not JobState.IDLE)
            progress = read_progress(store)
        except StoreError:
            job = JobState.UNKNOWN
    bucket = bucket_of(run)
    if bucket is not None and job in (JobState.ABSENT, JobState.UNKNOWN):
        try:
            found, progress = read_result(bucket), read_progress(bucket)
            if isinstance(found, BadResult):  # with a machine that does not answer, the job may go on
                found = last_word(bucket, run, may_go_on=False) if job is JobState.ABSENT else None
            result = found
        except StoreError:
            return _only_the_machine(run, ledger, job)
    if job is JobState.UNKNOWN and result is None and progress is None:
        return run
    return record(run, ledger, backend, job, progress, result)


def _only_the_machine(run: Run, ledger: Ledger, job: JobState) -> Run:
    """The bucket could not be asked, so whether the run is lost is not known; that its bill has ended is."""
    if job is JobState.ABSENT and run.may_bill:
        return ledger.change(run.run_id, released_at=latest_end(run, now_utc()))
    return run


def record(
    run: Run, ledger: Ledger, backend: Backend, job: JobState, progress: Progress | None, result: Result | None
) -> Run:
    """Write what was seen into the ledger; returns the new record.

    `run` is as it was before the look, which can take minutes: what another command has written since stays.
    """
    ends = result is None and derive_phase(run.phase, job, progress, result).is_final and not run.phase.is_final
    why = backend.diagnose(run) if ends and job is JobState.IDLE else "the machine is gone"
    seen_at = now_utc()

    def changes(now: Run) -> dict[str, object]:
        if now.shift != run.shift:
            return {}  # it was resumed meanwhile, and this is of the shift before
        written: dict[str, object] = {"phase": derive_phase(now.phase, job, progress, result), "refreshed_at": seen_at}
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
        if job is JobState.ABSENT and now.may_bill:
            written["released_at"] = latest_end(now, seen_at)
        return written

    try:
        return ledger.update(run.run_id, changes)
    except OSError:  # a full disk: what was seen is still true, and the next look writes it
        return with_changes(run, changes(run))


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
