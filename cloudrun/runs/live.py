"""The runs of a job file that go on now: whoever launches it again should know of them."""

from __future__ import annotations

from cloudrun.catalog.infras import CAPABILITIES
from cloudrun.job.job_file import Job
from cloudrun.runs.context import Context
from cloudrun.runs.refresh import refresh
from cloudrun.state.ledger import Ledger
from cloudrun.state.run import Run


def live_runs_of(job: Job, ledger: Ledger) -> list[Run]:
    """Return the runs of the same job file that have not ended, by the ledger; those on this computer are looked at.

    A rented machine is not asked: that takes seconds, and a run that ended a minute ago does no harm in a warning.
    """
    path = str(job.path.absolute())
    runs = [run for run in ledger.all() if run.job_path == path and not run.phase.is_final]
    local = [refresh(run, Context.of(run.backend, ledger)) if not _is_remote(run) else run for run in runs]
    return [run for run in local if not run.phase.is_final]


def _is_remote(run: Run) -> bool:
    return CAPABILITIES[run.backend].is_remote
