"""Turn ranked offers into a table or JSON values. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cloudrun.catalog.gpus import tier
from cloudrun.forecast.estimate import NoEstimate
from cloudrun.forecast.offers import RankedOffer
from cloudrun.render.tables import table, usd_range
from cloudrun.state.records import Estimate
from cloudrun.text.units import age, duration, iso, times


def offer_row(ranked: RankedOffer) -> dict[str, Any]:
    """Return one object of `gpus JOB.yaml --json`."""
    offer, made = ranked.offer, ranked.estimate
    known = None if isinstance(made, NoEstimate) else made
    return {
        "infra": offer.infra,
        "region": offer.region,
        "machine": offer.machine,
        "gpu": offer.gpu,
        "nodes": offer.nodes,
        "memory_gb": offer.memory_gb,
        "tier": _tier(offer.memory_gb),
        "hourly_usd": offer.hourly_usd,
        "spot_hourly_usd": offer.spot_usd,
        "price_source": offer.source,
        "price_as_of": iso(offer.as_of),
        "fits": ranked.fits,
        "why": ranked.why,
        "estimate": known.model_dump(mode="json") if known else None,
        "rests_on": _rests_on(made),
    }


def offers_table(offers: Sequence[RankedOffer], now: datetime) -> str:
    """Return a table of the offers in their order, and below it the source and the age of the prices."""
    rows = [_cells(one) for one in offers]
    headers = ["GPU", "MEMORY", "GOOD FOR", "WHERE", "$/H", "SPOT", "TO FINISH", "TIME", "FITS", "FROM"]
    sources = dict.fromkeys((one.offer.infra, one.offer.source, one.offer.as_of) for one in offers)
    ages = [
        f"prices of {infra}: {source}, {age(max(0.0, (now - as_of).total_seconds()))} old"
        for infra, source, as_of in sources
    ]
    return "\n".join([table(headers, rows), "", *ages])


def _cells(ranked: RankedOffer) -> list[str]:
    offer, made = ranked.offer, ranked.estimate
    known = None if isinstance(made, NoEstimate) else made
    return [
        times(offer.nodes, offer.gpu or offer.machine),
        f"{offer.memory_gb:g} GB" if offer.memory_gb else "-",
        _tier(offer.memory_gb) or "-",
        "/".join(part for part in (offer.infra, offer.region) if part),
        f"${offer.hourly_usd:.2f}",
        "-" if offer.spot_usd is None else f"${offer.spot_usd:.2f}",
        usd_range(known) if known else "-",
        f"{duration(known.low_s)} to {duration(known.high_s)}" if known else "-",
        ("" if ranked.fits else "no: ") + ranked.why,
        _rests_on(made).split("; ")[0],
    ]


def _rests_on(made: Estimate | NoEstimate) -> str:
    return f"no estimate: {made.why}" if isinstance(made, NoEstimate) else made.rests_on


def _tier(memory_gb: float | None) -> str | None:
    return None if memory_gb is None else tier(round(memory_gb))
