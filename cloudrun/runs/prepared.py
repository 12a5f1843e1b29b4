"""A job on its way to a machine: examined, then prepared. Nothing is rented, and nothing is billed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cloudrun.backends import Backend, open_backend
from cloudrun.dataset.audit import Findings
from cloudrun.dataset.duplicates import find_duplicates
from cloudrun.dataset.survey import Survey
from cloudrun.job.job_file import Job
from cloudrun.job.plan import Plan
from cloudrun.runs.forecast import Forecast, make_forecast
from cloudrun.runs.interrupted import find_interrupted
from cloudrun.runs.prepare import check_job, plan_for
from cloudrun.state.ledger import Ledger
from cloudrun.state.run import Run


@dataclass(frozen=True, slots=True)
class Examined:
    """A job without a mistake that can be found here, and what its images are like, where they are here."""

    job: Job
    survey: Survey | None
    findings: Findings | None = None

    @property
    def images(self) -> int | None:
        """How many there are; None where only the machine can count them."""
        if self.survey is None:
            return None
        labelled = sum(count for classes in self.survey.counts.values() for count in classes.values())
        return labelled + self.survey.unlabelled_test


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan, what it will take, and the backend that was asked: what a launch or a resume needs to be agreed to."""

    job: Job
    plan: Plan
    forecast: Forecast
    backend: Backend
    interrupted: Run | None = None  # a launch of the same job that was cut short: this goes on with it
    resumes: Run | None = None


def examine(job: Job, ledger: Ledger, say: Callable[[str], None], *, closely: bool = True) -> Examined:
    """Check the job, and `closely` look for copies among its images. Raises JobFileError."""
    survey = check_job(job)
    findings = find_duplicates(survey, ledger.home, say) if closely and survey is not None else None
    return Examined(job, survey, findings)


def prepare(examined: Examined, ledger: Ledger) -> Prepared:
    """Plan the job, ask for the machine's price, and foretell what it will take. Raises NoMachine."""
    job = examined.job
    left = find_interrupted(job, ledger)
    plan = plan_for(job, left.run_id if left else None)
    backend = open_backend(plan.backend, ledger.home)
    quote = left.quote if left is not None and left.quote is not None else backend.quote(plan)
    keys = backend.keys_sent(plan, quote)
    forecast = make_forecast(plan, quote, examined.survey, ledger, keys=keys)
    return Prepared(job, plan, forecast, backend, interrupted=left)


def prepare_to_resume(run: Run, examined: Examined, ledger: Ledger) -> Prepared:
    """The same for a run that goes on: on its machine while that may be up, else on one that has to be rented."""
    plan = plan_for(examined.job, run.run_id)
    backend = open_backend(plan.backend, ledger.home)
    quote = run.quote if run.may_bill else backend.quote(plan)
    keys = None if run.may_bill else backend.keys_sent(plan, quote)
    forecast = make_forecast(plan, quote, examined.survey, ledger, goes_on=run, keys=keys)
    return Prepared(examined.job, plan, forecast, backend, resumes=run)
