"""Offers and a quote from public list prices, where no cloud is enabled. To be shown: nothing is rented by them."""

from __future__ import annotations

from cloudrun.backends import Offer
from cloudrun.catalog.disk_price import disk_hourly_usd
from cloudrun.catalog.gpus import MEMORY_GB
from cloudrun.catalog.list_prices import list_prices
from cloudrun.forecast.offers import refusal
from cloudrun.job.plan import Plan
from cloudrun.state.records import Fallback, Quote


def list_offers(plan: Plan) -> list[Offer]:
    """Return each machine of the list of prices, as many of it as the plan wants; none has a spot price."""
    known = list_prices()
    return [
        Offer(
            infra=row.infra,
            region=row.region,
            machine=row.machine,
            gpu=f"{row.gpu}:{row.count}",
            memory_gb=MEMORY_GB.get(row.gpu),
            cpus=row.cpus,
            host_memory_gb=row.memory_gb,
            hourly_usd=row.hourly_usd * plan.spec.nodes,
            spot_usd=None,
            source=known.label,
            as_of=known.as_of,
            nodes=plan.spec.nodes,
        )
        for row in known.rows
    ]


def list_quote(plan: Plan) -> Quote | None:
    """Return the cheapest listed machine with the first GPU of the plan that is listed; None where there is none."""
    offers = [offer for offer in list_offers(plan) if not refusal(offer, plan.spec)]
    found = [
        min(fitting, key=lambda offer: offer.hourly_usd)
        for names in plan.spec.gpu_choices
        if (fitting := [offer for offer in offers if offer.gpu in names])
    ]
    if not found:
        return None
    first, *others = found
    return Quote(
        machine=first.machine,
        infra=first.infra,
        region=first.region,
        gpu=first.gpu,
        spot=False,
        hourly_usd=first.hourly_usd,
        disk_hourly_usd=_disk(plan, first.infra),
        source=first.source,
        as_of=first.as_of,
        cpus=first.cpus,
        nodes=first.nodes,
        fallbacks=tuple(
            Fallback(gpu=one.gpu or "", infra=one.infra, total_hourly_usd=one.hourly_usd + _disk(plan, one.infra))
            for one in others
        ),
    )


def _disk(plan: Plan, infra: str) -> float:
    return disk_hourly_usd(infra, plan.spec.resources.disk) * plan.spec.nodes
