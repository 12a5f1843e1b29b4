"""Predict how many epochs `epochs: auto` will have on a machine: as many as fit into its budget. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloudrun.forecast.workload import Workload
from cloudrun.state.records import Part

# Kept back at the end of the budget to save, as `Order.reserve_s`.
_RESERVE_S, _RESERVE_SHARE = 120.0, 0.25


@dataclass(frozen=True, slots=True)
class Fitting:
    """The seconds of training and the epochs of one model, as ranges; `hours`: to train; `limit`: who sets them."""

    train_s: tuple[float, float]
    epochs: tuple[int, int]
    hours: float
    limit: str

    @property
    def rests_on(self) -> str:
        low, high = self.epochs
        count = f"{low}" if low == high else f"{low} to {high}"
        return f"`epochs: auto`: {count} epochs in up to {self.hours:.2g} h of training ({self.limit})"


def fit(
    workload: Workload, train_s: tuple[float, float], others: Sequence[Part], *, hourly_usd: float | None
) -> Fitting | None:
    """Return what fits into the workload's budget; None where its number of epochs is given.

    `train_s`: the range for the most epochs; `others`: the parts before and after the training.
    """
    budget, train = workload.budget, workload.train
    if budget is None or train is None or not workload.epochs:
        return None
    limits = {"budget.max_hours": budget.max_hours * 3600}
    if hourly_usd:
        limits["budget.max_cost"] = budget.max_cost / hourly_usd * 3600
    limit = min(limits, key=lambda name: limits[name])
    whole = limits[limit]
    room = whole - min(_RESERVE_S, _RESERVE_SHARE * whole) - sum(part.high_s for part in others)
    if train.train_hours is not None and train.train_hours * 3600 < room:
        limit, room = "train.train_hours", train.train_hours * 3600
    low, high = train_s
    fastest, slowest = (_epochs(workload, room, seconds) for seconds in (low, high))
    shortest = low * workload.models / workload.epochs  # one epoch of each model
    taken = (max(min(low, room), shortest), max(min(high, room), shortest))
    return Fitting(taken, (slowest, fastest), max(room, 0.0) / 3600, limit)


def _epochs(workload: Workload, room_s: float, train_s: float) -> int:
    """Return the epochs of one model, of which `workload.epochs` of all models take `train_s`."""
    of_one = workload.epochs // workload.models
    return of_one if train_s <= room_s else max(1, int(of_one * room_s / train_s))
