"""Money: what a run has cost so far, and the most that it may. Pure; USD."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from cloudrun.run import Run

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
        spans.append((run.price, run.billed_from, run.released_at or now))
    if not spans:
        return Cost(None, None, is_final=run.phase.is_final, hours=0.0, usd=Decimal(0))
    seconds = [max((until - since).total_seconds(), 0.0) for _, since, until in spans]
    usd = [
        usd_for(s, quote.total_hourly_usd if quote else 0.0) for s, (quote, _, _) in zip(seconds, spans, strict=True)
    ]
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


def latest_end(run: Run, now: datetime) -> datetime:
    """The latest moment at which a machine that is found gone can have stopped billing: its budget's end, or now.

    Nobody saw it go; the switch on it ends it when the budget is used.
    """
    price = run.price
    if run.billed_from is None or price is None or "budget" not in run.job:
        return now
    budget = run.job["budget"]
    worst = worst_case(max_cost=budget["max_cost"], max_hours=budget["max_hours"], hourly_usd=price.total_hourly_usd)
    return min(now, run.billed_from + worst.time)
