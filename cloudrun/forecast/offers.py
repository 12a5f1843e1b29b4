"""Estimate a run on a quoted machine, compare it with the budget, and rank offers, before a machine is rented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudrun.backends import Offer
from cloudrun.dataset.survey import Survey
from cloudrun.errors import JobFileError
from cloudrun.forecast.estimate import Machine, NoEstimate, estimate, start_s
from cloudrun.forecast.speed import memory_fit
from cloudrun.forecast.workload import Workload, machine_key, workload_of
from cloudrun.job.plan import DataRoute, Plan
from cloudrun.job.spec import Budget, JobSpec
from cloudrun.state.records import Estimate, Measured, Phase, Quote
from cloudrun.state.run import Run
from cloudrun.text.units import duration


class StartOverBudget(JobFileError):
    """The budget would be used before training starts."""


@dataclass(frozen=True, slots=True)
class RankedOffer:
    """An offer, the estimate of the job on it, and whether the job fits on it.

    `why`: the reason why it does not fit, or how it trains there.
    """

    offer: Offer
    hourly_usd: float | None  # what the job would pay: the spot price where it asks for spot
    estimate: Estimate | NoEstimate
    fits: bool
    why: str


def workload_for(plan: Plan, survey: Survey | None) -> Workload:
    """Return the work that the plan's job has to do.

    `survey` is None where the images are not here, or where the user's own command alone reads them.
    """
    counts: dict[str, int] = {}
    size_bytes = 0
    if survey is not None:
        counts = survey.images_by_split()
        size_bytes = survey.size_bytes
    elif plan.data_route in (DataRoute.PUSHED, DataRoute.THROUGH_STORE):
        files = (path for path in Path(plan.spec.data.source).rglob("*") if path.is_file())
        size_bytes = sum(path.stat().st_size for path in files)
    return workload_of(plan.spec, counts, size_bytes)


def estimate_offer(
    plan: Plan, quote: Quote | None, workload: Workload, history: Sequence[Measured], *, goes_on: Run | None = None
) -> Estimate | NoEstimate:
    """Estimate `plan` on the quoted machine. `goes_on`: the run that is resumed."""
    is_up = goes_on is not None and goes_on.may_bill
    left = workload if goes_on is None else workload.after(_epochs_done(goes_on))
    return estimate(left, machine_of(plan, quote), history, is_up=is_up)


def machine_of(plan: Plan, quote: Quote | None) -> Machine:
    """Return the quoted machine; where only renting can tell it, the first choice, without a price."""
    spec = plan.spec
    gpu = quote.gpu if quote is not None else (spec.gpu_choices[0][0] if spec.gpu else None)
    name = quote.machine if quote is not None else "a machine without GPU"
    return Machine(
        key=machine_key(spec, gpu=gpu, machine=name),
        infra=quote.infra if quote is not None else (spec.infra or "the cheapest cloud").split("/")[0],
        gpu=None if spec.train.device == "cpu" else gpu,
        cpus=quote.cpus if quote is not None and quote.cpus else _at_least(spec.resources.cpus),
        hourly_usd=quote.total_hourly_usd if quote is not None else None,
        nodes=spec.nodes,
    )


def exceeds(made: Estimate | NoEstimate, budget: Budget) -> bool:
    """Return whether the run may be ended by its budget; False where there is no estimate."""
    if isinstance(made, NoEstimate):
        return False
    return (made.high_usd or 0.0) > budget.max_cost or made.high_s > budget.max_hours * 3600


def refuse_hopeless(made: Estimate | NoEstimate, budget: Budget, hourly_usd: float | None) -> None:
    """Raise StartOverBudget where renting, set-up and data alone use up the budget, even if all goes fast."""
    if isinstance(made, NoEstimate):
        return
    seconds = start_s(made)
    usd = seconds / 3600 * (hourly_usd or 0.0)
    ready = f"renting, set-up and data take {duration(seconds)} at the least"
    if usd >= budget.max_cost:
        raise StartOverBudget(
            f"{ready}, ${usd:.4f} at ${hourly_usd:.4f} an hour: nothing of `budget.max_cost` (${budget.max_cost:g})"
            " would be left to train",
            hint="raise it (`--max-cost`), or find a cheaper machine: `cloudrun gpus JOB.yaml`",
        )
    if seconds >= budget.max_hours * 3600:
        raise StartOverBudget(
            f"{ready}: nothing of `budget.max_hours` ({budget.max_hours:g} h) would be left to train",
            hint="raise it (`--max-hours`)",
        )


def rank(offers: Sequence[Offer], plan: Plan, workload: Workload, history: Sequence[Measured]) -> list[RankedOffer]:
    """Return the best offer for each GPU and infra, by the cost to finish the job.

    Offers on which the job fits come first; those without an estimate come last, by their price an hour.
    """
    ranked = weighed(offers, plan, workload, history)
    best: dict[tuple[str, str | None], RankedOffer] = {}
    for one in sorted(ranked, key=_order):
        name = one.offer.gpu.rpartition(":")[0] if one.offer.gpu else None
        best.setdefault((one.offer.infra, name), one)
    return sorted(best.values(), key=_order)


def weighed(offers: Sequence[Offer], plan: Plan, workload: Workload, history: Sequence[Measured]) -> list[RankedOffer]:
    """Return each offer with the estimate of the job on it, in the order of `offers`."""
    return [_ranked(offer, plan, workload, history) for offer in offers]


def _ranked(offer: Offer, plan: Plan, workload: Workload, history: Sequence[Measured]) -> RankedOffer:
    spec = plan.spec
    hourly = offer.spot_usd if spec.spot else offer.hourly_usd
    machine = Machine(
        key=machine_key(spec, gpu=offer.gpu, machine=offer.machine),
        infra=offer.infra,
        gpu=None if spec.train.device == "cpu" else offer.gpu,
        cpus=offer.cpus,
        hourly_usd=hourly,
        nodes=offer.nodes,
    )
    made = estimate(workload, machine, history)
    fits, why = _fits(offer, plan, workload)
    return RankedOffer(offer, hourly, made, fits, why)


def refusal(offer: Offer, spec: JobSpec) -> str:
    """Return why an offer is not what the job asks for beside its GPU: place, CPUs, memory. Empty where it is."""
    if spec.infra is not None and not _is_at(offer, spec.infra):
        return f"the job's infra is {spec.infra}"
    for what, asked, has in (
        ("CPUs", spec.resources.cpus, offer.cpus),
        ("GB of memory", spec.resources.memory, offer.host_memory_gb),
    ):
        if asked is not None and has is not None and not _meets(has, asked):
            return f"{has:g} {what}, and the job asks for {_in_words(asked)}"
    return ""


def _fits(offer: Offer, plan: Plan, workload: Workload) -> tuple[bool, str]:
    spec = plan.spec
    if spec.spot and offer.spot_usd is None:
        return False, "no spot machines"
    why = refusal(offer, spec)
    if why:
        return False, why
    if offer.gpu is None or spec.train.device == "cpu":
        return True, "trains on the CPU"
    fit = memory_fit(workload, offer.gpu, offer.memory_gb)
    return fit.fits, fit.why


def _order(one: RankedOffer) -> tuple[bool, bool, float, float]:
    made = one.estimate
    usd = None if isinstance(made, NoEstimate) or made.low_usd is None else made.low_usd + (made.high_usd or 0.0)
    return (not one.fits, usd is None, usd or 0.0, one.hourly_usd or 0.0)


def _epochs_done(run: Run) -> int:
    if run.phase is Phase.SUCCEEDED:
        return run.epoch or 0
    return max(0, (run.epoch or 1) - 1)


def _is_at(offer: Offer, infra: str) -> bool:
    cloud, _, place = infra.partition("/")
    if cloud not in (offer.infra, "k8s" if offer.infra == "kubernetes" else offer.infra):
        return False
    region = place.split("/")[0].lower()
    return region in ("", "*") or offer.region is None or offer.region.lower() == region


def _meets(has: float, asked: str) -> bool:
    """Return whether an amount meets a request, as SkyPilot filters: `8+` is met by 8 or more, `8` by 8 alone."""
    return has >= float(asked[:-1]) if asked.endswith("+") else has == float(asked)


def _in_words(asked: str) -> str:
    return asked[:-1] if asked.endswith("+") else f"exactly {asked} (`{asked}+` means at least)"


def _at_least(amount: str | None) -> float | None:
    return None if amount is None else float(amount.rstrip("+"))
