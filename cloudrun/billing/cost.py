"""Compute what a run has cost so far, and the most that it may cost. Pure; USD."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from cloudrun.catalog.disk_price import DISK_GOES_WHEN_STOPPED
from cloudrun.state.run import Run

_CENT_HUNDREDTH = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a run's machines; `is_final` once the last machine is proven gone.

    `usd` is for the time that is proven. Where nobody saw the end of a machine, it ended at `latest` at the latest, and
    the cost is `high_usd` at the most.
    """

    billed_from: datetime | None
    billed_to: datetime | None
    is_final: bool
    hours: float
    usd: Decimal
    latest: datetime | None = None
    high_usd: Decimal = Decimal(0)


def usd_for(seconds: float, hourly_usd: float) -> Decimal:
    """Return the USD for `seconds` at a rate, rounded half up to a hundredth of a cent."""
    exact = Decimal(str(hourly_usd)) * Decimal(str(seconds)) / Decimal(3600)
    return exact.quantize(_CENT_HUNDREDTH, rounding=ROUND_HALF_UP)


def cost_of(run: Run, now: datetime) -> Cost:
    """Return what all machines of the run have cost so far; 0 before the first one was asked for."""
    spans = [(one.quote, one.billed_from, one.released_at, one.released_by) for one in run.earlier]
    if run.billed_from is not None:
        spans.append((run.price, run.billed_from, run.released_at or run.stopped_at or now, run.released_by))
    if not spans:
        return Cost(None, None, is_final=run.phase.is_final, hours=0.0, usd=Decimal(0))
    rates = [quote.total_hourly_usd if quote else 0.0 for quote, *_ in spans]
    seconds = [_seconds(since, until) for _, since, until, _ in spans]
    longest = [_seconds(since, max(until, by or until)) for _, since, until, by in spans]
    disk_usd = stopped_disk_usd(run, now)
    return Cost(
        billed_from=spans[0][1],
        billed_to=now if run.may_bill else spans[-1][2],
        is_final=not run.may_bill,
        hours=round(sum(seconds) / 3600, 6),
        usd=sum((usd_for(s, rate) for s, rate in zip(seconds, rates, strict=True)), disk_usd),
        latest=max(spans[-1][2], spans[-1][3] or spans[-1][2]),
        high_usd=sum((usd_for(s, rate) for s, rate in zip(longest, rates, strict=True)), disk_usd),
    )


def stopped_disk_hourly_usd(run: Run) -> float:
    """Return the USD an hour of a stopped machine's disk; 0 where the disk goes when the machine stops."""
    price = run.price
    if price is None or price.infra in DISK_GOES_WHEN_STOPPED:
        return 0.0
    estimated = run.expected.disk_hourly_usd if run.expected is not None else 0.0
    return price.disk_hourly_usd or estimated  # a provider's own price does not tell the disk from the machine


def stopped_disk_usd(run: Run, now: datetime) -> Decimal:
    """Return the USD that the disk of a stopped machine has cost since the machine stopped."""
    if run.stopped_at is None:
        return Decimal(0)
    until = now if run.may_bill else run.disk_until or run.stopped_at
    return usd_for(_seconds(run.stopped_at, until), stopped_disk_hourly_usd(run))


def _seconds(since: datetime, until: datetime) -> float:
    return max((until - since).total_seconds(), 0.0)


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The most money and time that a budget allows, and which of its two limits ends the run first."""

    usd: Decimal
    time: timedelta
    limit: str


def worst_case(*, max_cost: float, max_hours: float, hourly_usd: float) -> WorstCase:
    """Return the most that a budget allows at this price."""
    by_hours = usd_for(max_hours * 3600, hourly_usd)
    if hourly_usd == 0 or by_hours <= Decimal(str(max_cost)):
        return WorstCase(by_hours, timedelta(hours=max_hours), "max_hours")
    return WorstCase(Decimal(str(max_cost)), timedelta(hours=max_cost / hourly_usd), "max_cost")
