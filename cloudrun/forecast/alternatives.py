"""Compute the time and cost that a run would have had on other offers, by its own time and each card's listed speed.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from cloudrun.backends import Offer
from cloudrun.billing.cost import usd_for
from cloudrun.forecast.speed import Speed, listed_speed, memory_fit
from cloudrun.forecast.workload import workload_of
from cloudrun.job.spec import JobSpec
from cloudrun.protocol.words import WorkerPhase
from cloudrun.state.records import Alternative
from cloudrun.state.run import Run

_KEPT = 8


def alternatives(run: Run, offers: Sequence[Offer]) -> tuple[Alternative, ...]:
    """Return what the run would have cost on the cheapest other offers, the cheapest first.

    Empty for the user's own command and for training on a CPU: their speed elsewhere is not known.
    """
    spec = JobSpec.model_validate(run.job)
    quote = run.quote
    if quote is None or quote.gpu is None or spec.run is not None or spec.train.device == "cpu":
        return ()
    workload = workload_of(spec, {}, 0)
    here = listed_speed(workload, gpu=quote.gpu, cpus=quote.cpus, nodes=quote.nodes)
    train_s = sum(float(phase["seconds"]) for phase in run.phases if phase["name"] == WorkerPhase.RUN)
    if here is None or run.billed_from is None or run.released_at is None:
        return ()
    other_s = max((run.released_at - run.billed_from).total_seconds() - train_s, 0.0)
    found: dict[tuple[str, str, bool], Alternative] = {}
    for offer in offers:
        if offer.gpu is None or not memory_fit(workload, offer.gpu, offer.memory_gb).fits:
            continue
        there = listed_speed(workload, gpu=offer.gpu, cpus=offer.cpus, nodes=offer.nodes)
        if there is None:
            continue
        seconds = other_s + train_s * _middle(there) / _middle(here)
        for hourly, spot in ((offer.hourly_usd, False), (offer.spot_usd, True)):
            if hourly is not None:
                key = (offer.infra, offer.gpu, spot)
                one = _priced(offer, hourly, seconds, spot=spot)
                found[key] = min(found.get(key, one), one, key=lambda each: each.usd)
    return tuple(sorted(found.values(), key=lambda one: one.usd)[:_KEPT])


def _priced(offer: Offer, hourly_usd: float, seconds: float, *, spot: bool) -> Alternative:
    return Alternative(
        infra=offer.infra,
        region=offer.region,
        gpu=offer.gpu or "",
        spot=spot,
        hourly_usd=hourly_usd,
        seconds=round(seconds, 1),
        usd=float(usd_for(seconds, hourly_usd)),
    )


def _middle(speed: Speed) -> float:
    return sum(speed.train_s) / 2
