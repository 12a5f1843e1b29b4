"""Examine a job, then prepare its launch. Nothing is rented here, and nothing is billed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cloudrun.backends import Backend, open_backend
from cloudrun.dataset.audit import Findings
from cloudrun.dataset.duplicates import find_duplicates
from cloudrun.dataset.survey import Survey
from cloudrun.forecast.list_offers import list_quote
from cloudrun.job.job_file import Job
from cloudrun.job.plan import Plan
from cloudrun.runs.data_check import data_check_of
from cloudrun.runs.forecast import Forecast, make_forecast
from cloudrun.runs.interrupted import find_interrupted
from cloudrun.runs.prepare import check_job, plan_for
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import DataCheck
from cloudrun.state.run import Run


@dataclass(frozen=True, slots=True)
class Examined:
    """A job in which this computer found no mistake; its survey, and what was found about images that are here."""

    job: Job
    survey: Survey | None
    findings: Findings | None = None

    @property
    def images(self) -> int | None:
        """The number of images; None where only the machine can count them."""
        if self.survey is None:
            return None
        labelled = sum(count for classes in self.survey.counts.values() for count in classes.values())
        return labelled + self.survey.unlabelled_test


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan, its forecast, and the backend that made the quote: what the user agrees to before launch or resume."""

    job: Job
    plan: Plan
    forecast: Forecast
    backend: Backend
    data_check: DataCheck | None = None
    interrupted: Run | None = None  # an interrupted launch of the same job, with which this one goes on
    resumes: Run | None = None  # the run that goes on, where this is no launch but a resume


def examine(job: Job, ledger: Ledger, say: Callable[[str], None], *, closely: bool = True) -> Examined:
    """Check the job; with `closely`, also look for duplicates among its images. Raises JobFileError."""
    survey = check_job(job)
    findings = find_duplicates(survey, ledger.home, say) if closely and survey is not None else None
    return Examined(job, survey, findings)


def prepare(examined: Examined, ledger: Ledger) -> Prepared:
    """Plan the job, ask for the machine's price, and estimate the run. Raises NoMachine.

    Where a launch of the same job was interrupted, its run id and its quote are taken.
    """
    job = examined.job
    left = find_interrupted(job, ledger)
    plan = plan_for(job, left.run_id if left else None)
    backend = open_backend(plan.backend, ledger.home)
    quote = left.quote if left is not None and left.quote is not None else backend.quote(plan)
    keys = backend.keys_sent(plan, quote)
    forecast = make_forecast(plan, quote, examined.survey, ledger, keys=keys)
    checked = data_check_of(examined.survey, examined.findings)
    return Prepared(job, plan, forecast, backend, checked, interrupted=left)


def at_list_price(examined: Examined, ledger: Ledger) -> Prepared | None:
    """Plan the job at public list prices, to be shown where no cloud is enabled; None where its GPUs are not listed."""
    plan = plan_for(examined.job)
    quote = list_quote(plan)
    if quote is None:
        return None
    forecast = make_forecast(plan, quote, examined.survey, ledger)
    checked = data_check_of(examined.survey, examined.findings)
    return Prepared(examined.job, plan, forecast, open_backend(plan.backend, ledger.home), checked)


def prepare_to_resume(run: Run, examined: Examined, ledger: Ledger) -> Prepared:
    """Prepare to resume a run: on its machine while that may be up, else on one that has to be rented.

    Raises NoMachine.
    """
    plan = plan_for(examined.job, run.run_id)
    backend = open_backend(plan.backend, ledger.home)
    quote = run.quote if run.may_bill else backend.quote(plan)
    keys = None if run.may_bill else backend.keys_sent(plan, quote)
    forecast = make_forecast(plan, quote, examined.survey, ledger, goes_on=run, keys=keys)
    return Prepared(examined.job, plan, forecast, backend, resumes=run)
