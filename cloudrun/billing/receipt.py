"""Make `cost.json`: what was billed and for what, beside the estimate and SkyPilot's count. Pure; USD, seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TypedDict

from cloudrun.billing.cost import Cost, cost_of, stopped_disk_usd, usd_for, worst_case
from cloudrun.billing.own_price import OwnCost, own_cost
from cloudrun.protocol.metrics import MetricsRow
from cloudrun.protocol.words import WorkerPhase
from cloudrun.state.records import Alternative, BilledElsewhere, Quote
from cloudrun.state.run import Run
from cloudrun.text.units import iso

# The worker's names for its phases -> the receipt's.
_PHASES = {WorkerPhase.PREPARE.value: "setup", WorkerPhase.RUN.value: "train"}
_CENT = Decimal("0.01")

Metrics = Sequence[MetricsRow]
"""The rows of `metrics.jsonl`; none where the file is not at home."""


class PricedPhase(TypedDict):
    """A part of the billed time: `provision`, `setup`, `train`, `idle`, `upload`, `release`, or the worker's name."""

    name: str
    duration_s: float
    cost_usd: float


class PricedEpoch(TypedDict):
    """An epoch with its time and cost; `val_accuracy` is None where it was not measured."""

    epoch: int
    duration_s: float
    cost_usd: float
    val_accuracy: float | None


class Worth(TypedDict):
    """The validation accuracy that the money bought, and USD for each point, which is a percent of accuracy."""

    first: float
    best: float
    best_epoch: int
    usd_per_point: float | None
    usd_after_best: float


class Estimated(TypedDict):
    """The budget's bound, the estimate before the launch, the corrected estimate, and the actual time and cost.

    `off` and `corrected_off`: how far the estimates were off, as a part of the actual time.
    """

    worst_case_usd: float
    worst_case_hours: float
    worst_case_limit: str
    low_usd: float | None
    high_usd: float | None
    low_s: float | None
    high_s: float | None
    rests_on: str | None
    corrected_usd: float | None
    corrected_s: float | None
    actual_usd: float
    actual_s: float
    off: float | None
    corrected_off: float | None


class SkyCount(TypedDict):
    """SkyPilot's own count of the machine, and how ours differs from it."""

    duration_s: float
    cost_usd: float
    cloudrun_over_same_time_usd: float
    agrees_to_the_cent: bool
    difference_s: float
    why: str


class OtherOffer(TypedDict):
    """The time and cost that the run would have had on another offer."""

    infra: str
    region: str | None
    gpu: str
    spot: bool
    hourly_usd: float
    duration_s: float
    cost_usd: float
    rests_on: str


class Receipt(TypedDict):
    """`cost.json`; times in ISO 8601."""

    run_id: str
    machine: str | None
    nodes: int
    infra: str | None
    region: str | None
    gpu: str | None
    spot: bool
    hourly_usd: float | None
    disk_hourly_usd: float | None
    price_source: str | None
    price_as_of: str | None
    billed_from: str | None
    billed_to: str | None
    billed_to_earliest: str | None
    billed_to_latest: str | None
    stopped_at: str | None
    stopped_disk_usd: float
    is_final: bool
    start_is: str | None
    end_is: str | None
    machines: int
    hours: float
    cost_usd: float
    cost_low_usd: float
    cost_high_usd: float
    estimate: Estimated | None
    phases: list[PricedPhase]
    epochs: list[PricedEpoch]
    accuracy: Worth | None
    skypilot: SkyCount | None
    alternatives: list[OtherOffer]
    own: OwnCost | None


def receipt(run: Run, now: datetime, metrics: Metrics = ()) -> Receipt:
    """Return the content of `cost.json`; `metrics`: the rows of the run's `metrics.jsonl`."""
    cost = cost_of(run, now)
    quote = run.price
    phases = _phases(run)
    epochs = _epochs(run, metrics)
    return {
        "run_id": run.run_id,
        "machine": quote.machine if quote else None,
        "nodes": quote.nodes if quote else run.nodes,
        "infra": quote.infra if quote else run.infra,
        "region": quote.region if quote else None,
        "gpu": quote.gpu if quote else None,
        "spot": quote.spot if quote else False,
        "hourly_usd": quote.hourly_usd if quote else None,
        "disk_hourly_usd": quote.disk_hourly_usd if quote else None,
        "price_source": quote.source if quote else None,
        "price_as_of": iso(quote.as_of) if quote else None,
        "billed_from": iso(cost.billed_from),
        "billed_to": iso(cost.billed_to),
        "billed_to_earliest": iso(cost.billed_to),
        "billed_to_latest": iso(cost.latest),
        "stopped_at": iso(run.stopped_at),
        "stopped_disk_usd": float(stopped_disk_usd(run, now)),
        "is_final": cost.is_final,
        "start_is": _start(run),
        "end_is": _end(run),
        "machines": len(run.earlier) + (run.billed_from is not None),
        "hours": cost.hours,
        "cost_usd": float(cost.usd),
        "cost_low_usd": float(cost.usd),
        "cost_high_usd": float(max(cost.high_usd, cost.usd)),
        "estimate": _estimate(run, quote, cost),
        "phases": [_priced(name, seconds, quote) for name, seconds in phases],
        "epochs": epochs,
        # With folds, one model after another is trained: no epoch's accuracy is the run's.
        "accuracy": None if any("fold" in row for row in metrics) else _worth(epochs, metrics),
        "skypilot": _compared(run),
        "alternatives": [_alternative(one) for one in run.alternatives],
        "own": own_cost(run, cost.hours),
    }


def _alternative(one: Alternative) -> OtherOffer:
    return {
        "infra": one.infra,
        "region": one.region,
        "gpu": one.gpu,
        "spot": one.spot,
        "hourly_usd": one.hourly_usd,
        "duration_s": one.seconds,
        "cost_usd": one.usd,
        "rests_on": "the time it took here, and the cards' listed speeds",
    }


def _start(run: Run) -> str | None:
    """Return in words from when the bill is counted; None where there is no bill."""
    if run.billed_from is None:
        return None
    return "the provider's time of the machine" if run.start_is == "provider" else "the request for the machine"


def _end(run: Run) -> str | None:
    """Return how the end of the bill is known; None before it.

    `not seen`: a machine ended at an unknown moment between two known ones.
    """
    ends = [one.released_by for one in run.earlier] + ([run.released_by] if run.billed_from is not None else [])
    if run.may_bill or not ends:
        return None
    if any(end is not None for end in ends):
        return "not seen"
    return "proven" if run.end_is_proven or run.billed_from is None else "by the provider's record"


def _estimate(run: Run, quote: Quote | None, cost: Cost) -> Estimated | None:
    """Return the estimates beside the actual time and cost; None where there is no price or no budget."""
    if quote is None or "budget" not in run.job:
        return None
    budget = run.job["budget"]
    worst = worst_case(max_cost=budget["max_cost"], max_hours=budget["max_hours"], hourly_usd=quote.total_hourly_usd)
    made = run.estimate
    actual_s = cost.hours * 3600
    return {
        "worst_case_usd": float(worst.usd),
        "worst_case_hours": round(worst.time.total_seconds() / 3600, 4),
        "worst_case_limit": f"budget.{worst.limit}",
        "low_usd": made.low_usd if made else None,
        "high_usd": made.high_usd if made else None,
        "low_s": made.low_s if made else None,
        "high_s": made.high_s if made else None,
        "rests_on": made.rests_on if made else None,
        "corrected_usd": run.projected_usd,
        "corrected_s": run.projected_s,
        "actual_usd": float(cost.usd),
        "actual_s": round(actual_s, 1),
        "off": _off((made.low_s + made.high_s) / 2 if made else None, actual_s, cost),
        "corrected_off": _off(run.projected_s, actual_s, cost),
    }


def _off(estimated_s: float | None, actual_s: float, cost: Cost) -> float | None:
    """Return how far an estimate was off, as a part of the actual time: 0.1 means 10 % too much.

    None while the run may still bill, and where there is no estimate.
    """
    if estimated_s is None or not cost.is_final or actual_s <= 0:
        return None
    return round(estimated_s / actual_s - 1, 3)


def _phases(run: Run) -> list[tuple[str, float]]:
    """Return (name, seconds) of all billed time: the worker's phases of every attempt, and the time between them."""
    spans: list[tuple[str, float]] = []
    billed_from = run.earlier[0].billed_from if run.earlier else run.billed_from
    if billed_from is None:
        return spans
    known_to = billed_from
    for phase in (*run.past_phases, *run.phases):
        started = datetime.fromisoformat(phase["from"])
        spans += _between(run, known_to, started)
        spans.append((_PHASES.get(phase["name"], phase["name"]), float(phase["seconds"])))
        known_to = max(known_to, datetime.fromisoformat(phase["to"]))
    return spans + _after_the_job(run, known_to, is_first=not spans)


def _between(run: Run, since: datetime, until: datetime) -> list[tuple[str, float]]:
    """What was billed between two phases: a machine that waits, and the next one until it is there.

    A run that is resumed later has no machine in the meantime, and that time costs nothing.
    """
    machines = [(one.billed_from, one.released_at) for one in run.earlier]
    if run.billed_from is not None:
        machines.append((run.billed_from, run.released_at or until))
    spans = []
    for begun, ended in machines:
        seconds = (min(until, ended) - max(since, begun)).total_seconds()
        if seconds > 0:
            spans.append(("provision" if begun >= since else "idle", seconds))
    return spans


def _after_the_job(run: Run, known_to: datetime, *, is_first: bool) -> list[tuple[str, float]]:
    """Return (name, seconds) from the job's end to the machine's: waiting, fetching results, ending the machine."""
    if run.released_at is None or run.released_at <= known_to:
        return []
    if is_first:
        return [("provision", (run.released_at - known_to).total_seconds())]
    spans = []
    for name, moment in (("idle", run.fetch_began_at), ("upload", run.home_at), ("release", run.released_at)):
        if moment is not None and known_to < moment <= run.released_at:
            spans.append((name, (moment - known_to).total_seconds()))
            known_to = moment
    return spans


def _priced(name: str, seconds: float, quote: Quote | None) -> PricedPhase:
    rate = quote.total_hourly_usd if quote else 0.0
    return {"name": name, "duration_s": round(seconds, 1), "cost_usd": float(usd_for(round(seconds, 1), rate))}


def _epochs(run: Run, metrics: Metrics) -> list[PricedEpoch]:
    """Return each epoch's time and cost, counted from the end of the epoch before it.

    Where a run was resumed, the gap between the attempts belongs to no epoch.
    """
    rate = run.price.total_hourly_usd if run.price else 0.0
    starts = [
        datetime.fromisoformat(p["from"]) for p in (*run.past_phases, *run.phases) if p["name"] == WorkerPhase.RUN
    ]
    rows: list[PricedEpoch] = []
    before = None
    for row in metrics:
        if row.get("kind") != "val":
            continue
        ended = datetime.fromisoformat(str(row["time"]))
        begun = [start for start in starts if start <= ended]
        since = max([moment for moment in (before, *begun[-1:]) if moment is not None], default=ended)
        seconds = (ended - since).total_seconds()
        rows.append(
            {
                "epoch": int(row["epoch"]),
                "duration_s": round(seconds, 1),
                "cost_usd": float(usd_for(seconds, rate)),
                "val_accuracy": row.get("accuracy"),
            }
        )
        before = ended
    return rows


def _worth(epochs: Sequence[PricedEpoch], metrics: Metrics) -> Worth | None:
    """Return what the money bought: points (percent) of validation accuracy, and the epoch after which it bought none.

    None where no epoch has an accuracy.
    Of epochs with the same accuracy the best one is the trainer's: the lower validation loss, then the earlier one.
    """
    scored = [(row["val_accuracy"], row) for row in epochs if row["val_accuracy"] is not None]
    losses = {int(row["epoch"]): row.get("loss") or math.inf for row in metrics if row.get("kind") == "val"}
    if not scored:
        return None
    first_accuracy, first = scored[0]
    best_accuracy, best = max(scored, key=lambda one: (one[0], -losses[one[1]["epoch"]], -one[1]["epoch"]))
    spent = sum(row["cost_usd"] for _, row in scored if row["epoch"] <= best["epoch"])
    after = sum(row["cost_usd"] for _, row in scored if row["epoch"] > best["epoch"])
    gained = (best_accuracy - first_accuracy) * 100
    later = spent - first["cost_usd"]
    return {
        "first": first_accuracy,
        "best": best_accuracy,
        "best_epoch": best["epoch"],
        "usd_per_point": round(later / gained, 4) if gained > 0 else None,
        "usd_after_best": round(after, 4),
    }


def _compared(run: Run) -> SkyCount | None:
    """Return SkyPilot's own count of this machine beside ours, and why the two differ; None where there is no count."""
    account = run.sky_account
    if account is None or run.billed_from is None or run.released_at is None or run.quote is None:
        return None
    ours_s = (run.released_at - run.billed_from).total_seconds()
    ours_over_theirs = usd_for(account.seconds, run.quote.hourly_usd)
    agrees = abs(ours_over_theirs - Decimal(str(account.usd))) < _CENT
    return {
        "duration_s": account.seconds,
        "cost_usd": round(account.usd, 4),
        "cloudrun_over_same_time_usd": float(ours_over_theirs),
        "agrees_to_the_cent": agrees,
        "difference_s": round(ours_s - account.seconds, 1),
        "why": _why_they_differ(run, account),
    }


def _why_they_differ(run: Run, account: BilledElsewhere) -> str:
    assert run.billed_from is not None
    assert run.released_at is not None
    reasons = []
    if account.began_at is not None:
        early = (account.began_at - run.billed_from).total_seconds()
        if abs(early) >= 1:
            side = f"{abs(early):.0f} s {'before' if early > 0 else 'after'} it"
            reasons.append(f"SkyPilot counts from its launch request, cloudrun from {side}")
    if account.ended_at is not None:
        late = (run.released_at - account.ended_at).total_seconds()
        if abs(late) >= 1:
            side = f"{late:.0f} s later, when it is proven" if late > 0 else f"{-late:.0f} s earlier, by the provider"
            reasons.append(f"SkyPilot closes when it asks for the end, cloudrun {side}")
    if run.quote is not None and run.quote.is_billed:
        reasons.append(f"SkyPilot counts at its catalog's price, cloudrun at what {run.quote.infra} bills")
    if run.quote is not None and run.quote.disk_hourly_usd:
        reasons.append("SkyPilot counts no disk")
    return "; ".join(reasons)
