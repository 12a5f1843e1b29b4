"""Money: what a run has cost so far, and the most that it may. Pure; USD."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from cloudrun.run import Quote, Run
from cloudrun.units import iso

_CENT_HUNDREDTH = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a run's machines; `is_final` once the last one is proven gone."""

    billed_from: datetime | None
    billed_to: datetime | None
    is_final: bool
    hours: float
    usd: Decimal


def usd_for(seconds: float, hourly_usd: float) -> Decimal:
    """USD for `seconds` at a rate, rounded half up to a hundredth of a cent."""
    exact = Decimal(str(hourly_usd)) * Decimal(str(seconds)) / Decimal(3600)
    return exact.quantize(_CENT_HUNDREDTH, rounding=ROUND_HALF_UP)


def cost_of(run: Run, now: datetime) -> Cost:
    """What the run's machines have cost, resumed ones added up; 0 before one was asked for."""
    spans = [(one.quote, one.billed_from, one.released_at) for one in run.earlier]
    if run.billed_from is not None:
        spans.append((run.quote, run.billed_from, run.released_at or now))
    if not spans:
        return Cost(None, None, is_final=run.phase.is_final, hours=0.0, usd=Decimal(0))
    seconds = [max((until - since).total_seconds(), 0.0) for _, since, until in spans]
    usd = [usd_for(s, quote.hourly_usd if quote else 0.0) for s, (quote, _, _) in zip(seconds, spans, strict=True)]
    return Cost(
        billed_from=spans[0][1],
        billed_to=spans[-1][2],
        is_final=not run.may_bill,
        hours=round(sum(seconds) / 3600, 6),
        usd=sum(usd, Decimal(0)),
    )


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The most that a budget allows, and which of its two limits ends the run first."""

    usd: Decimal
    time: timedelta
    limit: str


def worst_case(*, max_cost: float, max_hours: float, hourly_usd: float) -> WorstCase:
    by_hours = usd_for(max_hours * 3600, hourly_usd)
    if hourly_usd == 0 or by_hours <= Decimal(str(max_cost)):
        return WorstCase(by_hours, timedelta(hours=max_hours), "max_hours")
    return WorstCase(Decimal(str(max_cost)), timedelta(hours=max_cost / hourly_usd), "max_cost")


def receipt(run: Run, now: datetime) -> dict[str, Any]:
    """The contents of `cost.json`."""
    cost = cost_of(run, now)
    quote = run.quote
    return {
        "run_id": run.run_id,
        "machine": quote.machine if quote else None,
        "infra": quote.infra if quote else run.infra,
        "region": quote.region if quote else None,
        "gpu": quote.gpu if quote else None,
        "spot": quote.spot if quote else False,
        "hourly_usd": quote.hourly_usd if quote else None,
        "price_source": quote.source if quote else None,
        "price_as_of": iso(quote.as_of) if quote else None,
        "billed_from": iso(cost.billed_from),
        "billed_to": iso(cost.billed_to),
        "is_final": cost.is_final,
        "hours": cost.hours,
        "cost_usd": float(cost.usd),
        "estimate": _estimate(run, quote),
        "phases": [_priced(phase, quote) for phase in _all_phases(run)],
        "alternatives": [],
    }


def _estimate(run: Run, quote: Quote | None) -> dict[str, Any] | None:
    """So far only the bound that the budget sets is known before a run."""
    if quote is None or "budget" not in run.job:
        return None
    budget = run.job["budget"]
    worst = worst_case(max_cost=budget["max_cost"], max_hours=budget["max_hours"], hourly_usd=quote.hourly_usd)
    return {
        "worst_case_usd": float(worst.usd),
        "worst_case_hours": round(worst.time.total_seconds() / 3600, 4),
        "rests_on": f"budget.{worst.limit}",
    }


def _all_phases(run: Run) -> list[dict[str, Any]]:
    """The worker's phases of every shift, and what lies between them: renting, waiting, releasing."""
    phases: list[dict[str, Any]] = []
    billed_from = run.earlier[0].billed_from if run.earlier else run.billed_from
    if billed_from is None:
        return phases
    known_to = billed_from
    for phase in (*run.past_phases, *run.phases):
        started = datetime.fromisoformat(phase["from"])
        if started > known_to:
            phases.append({"name": "idle" if phases else "provision", "seconds": (started - known_to).total_seconds()})
        phases.append(phase)
        known_to = max(known_to, datetime.fromisoformat(phase["to"]))
    if run.released_at is not None and run.released_at > known_to:
        phases.append(
            {"name": "release" if phases else "provision", "seconds": (run.released_at - known_to).total_seconds()}
        )
    return phases


def _priced(phase: dict[str, Any], quote: Quote | None) -> dict[str, Any]:
    rate = quote.hourly_usd if quote else 0.0
    seconds = round(float(phase["seconds"]), 1)
    return {"name": phase["name"], "duration_s": seconds, "cost_usd": float(usd_for(seconds, rate))}
