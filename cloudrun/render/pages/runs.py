"""All runs: state, machine, dollars so far, score, since when; sorted as the address says. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, get_args

from cloudrun.billing.cost import Cost, cost_of
from cloudrun.protocol.metrics import MetricsRow
from cloudrun.render.report.metric import METRIC_NAMES
from cloudrun.render.report.template import rendered
from cloudrun.render.report.wording import cents, decimal, percent, seconds
from cloudrun.state.received import Summary
from cloudrun.state.records import Phase
from cloudrun.state.run import Run
from cloudrun.text.units import age, iso, times

Column = Literal["run", "state", "gpu", "epoch", "score", "cost", "since"]
_NAMES: Mapping[Column, str] = {
    "run": "run",
    "state": "state",
    "gpu": "machine",
    "epoch": "epoch",
    "score": "validation",
    "cost": "cost",
    "since": "since",
}
_NUMBERS: tuple[Column, ...] = ("epoch", "score", "cost")
_LARGEST_FIRST: tuple[Column, ...] = ("score", "cost", "since", "epoch")
Key = tuple[float, str]
_TONES = {Phase.SUCCEEDED: "good", Phase.FAILED: "bad", Phase.LOST: "bad", Phase.OVER_BUDGET: "bad"}


@dataclass(frozen=True, slots=True)
class Listed:
    """A run as it was last seen, with what is known of its results."""

    run: Run
    summary: Summary
    metrics: Sequence[MetricsRow] = ()


@dataclass(frozen=True, slots=True)
class RunRow:
    """A row of the table. `tone` colours the state; `score_name` says what the score is."""

    run_id: str
    name: str
    state: str
    tone: str
    machine: str
    epoch: str
    score: str
    score_name: str
    cost: str
    rate: str
    since: str
    ago: str


@dataclass(frozen=True, slots=True)
class Header:
    """A column's title; `query` is the address that sorts by it, `order` as `aria-sort` says it."""

    name: str
    query: str
    order: Literal["ascending", "descending", "none"]
    is_number: bool


@dataclass(frozen=True, slots=True)
class RunsPage:
    figures: tuple[tuple[str, str], ...]
    headers: tuple[Header, ...]
    rows: tuple[RunRow, ...]
    damaged: tuple[str, ...]
    query: str


@dataclass(frozen=True, slots=True)
class Order:
    """By which column, and whether the largest comes first."""

    column: Column = "since"
    is_falling: bool = True

    @property
    def query(self) -> str:
        return f"sort={self.column}&order={'desc' if self.is_falling else 'asc'}"


def order_of(sort: str, order: str) -> Order:
    """Return the order that an address asks for; the newest first where it asks for nothing that is known."""
    column = next((one for one in get_args(Column) if one == sort), None)
    if column is None:
        return Order()
    return Order(column, order == "desc" if order in ("asc", "desc") else column in _LARGEST_FIRST)


def runs_html(page: RunsPage) -> str:
    """Return the page of all runs."""
    return rendered("runs.html", layout="site.html", page=page)


def rows_html(page: RunsPage) -> str:
    """Return the part of the page that changes while runs go on."""
    return rendered("runs_table.html", page=page)


def runs_page(listed: Sequence[Listed], now: datetime, order: Order, damaged: Sequence[str] = ()) -> RunsPage:
    """Return what the page of all runs shows; `damaged`: a line for each record that cannot be read."""
    costs = {one.run.run_id: cost_of(one.run, now) for one in listed}
    ordered = sorted(listed, key=lambda one: (one.run.created_at, one.run.run_id), reverse=True)
    # What has no value in this column comes last, whatever the order.
    keyed = [(one, _key(one, order.column, costs)) for one in ordered]
    known = [(one, key) for one, key in keyed if key is not None]
    known.sort(key=lambda pair: pair[1], reverse=order.is_falling)
    shown = [*(one for one, _ in known), *(one for one, key in keyed if key is None)]
    return RunsPage(
        figures=_figures(listed, costs, now),
        headers=tuple(_header(column, order) for column in _NAMES),
        rows=tuple(_row(one, costs[one.run.run_id], now) for one in shown),
        damaged=tuple(damaged),
        query=order.query,
    )


def score_of(one: Listed) -> tuple[float, str] | None:
    """Return the best validation score and its name: the run's own metric, else accuracy; None before the first."""
    summary = one.summary
    _, _, metric = (summary.metric_name or "").partition("_")
    if summary.best_metric is not None and summary.metric_name:
        named = {"macro_f1": "macro F1", **{str(key): name for key, name in METRIC_NAMES.items()}}
        return summary.best_metric, named.get(metric, metric or summary.metric_name)
    if summary.val_accuracy is not None:
        return summary.val_accuracy, "accuracy"
    seen = [row["accuracy"] for row in one.metrics if row["kind"] == "val" and row.get("accuracy") is not None]
    best = max((value for value in seen if value is not None), default=None)
    return None if best is None else (best, "accuracy")


def machine_text(run: Run) -> str:
    """Return `2 x A100:1, aws`; the infra alone where no GPU is known."""
    gpu = run.price.gpu if run.price else (run.gpu[0] if run.gpu else None)
    infra = run.price.infra if run.price else run.infra
    parts = [times(run.nodes, gpu) if gpu else None, infra]
    return ", ".join(part for part in parts if part) or "–"


def _key(one: Listed, column: Column, costs: Mapping[str, Cost]) -> Key | None:
    run = one.run
    match column:
        case "run":
            return 0.0, run.run_id
        case "state":
            return float(run.phase.is_final) + 2 * (not run.may_bill), run.phase.value
        case "gpu":
            return 0.0, machine_text(run)
        case "epoch":
            return None if run.epoch is None else (float(run.epoch), "")
        case "score":
            score = score_of(one)
            return None if score is None else (score[0], "")
        case "cost":
            return float(costs[run.run_id].usd), ""
        case "since":
            return run.created_at.timestamp(), run.run_id


def _row(one: Listed, cost: Cost, now: datetime) -> RunRow:
    run, score = one.run, score_of(one)
    hourly = run.price.total_hourly_usd if run.price else None
    is_unknown = run.may_bill and run.price is None
    return RunRow(
        run_id=run.run_id,
        name=run.name,
        state=run.phase.value.replace("_", " "),
        tone=_TONES.get(run.phase, "dim" if run.phase.is_final else "live"),
        machine=machine_text(run),
        epoch=f"{run.epoch}/{run.epochs}" if run.epoch and run.epochs else str(run.epoch or "–"),
        score="–" if score is None else (percent(score[0]) if score[1] == "accuracy" else decimal(score[0])),
        score_name="" if score is None else score[1],
        cost="unknown" if is_unknown else cents(float(cost.usd)),
        rate=f"{cents(hourly)}/h" if run.may_bill and hourly else "",
        since=iso(run.created_at) or "",
        ago=f"{age(max((now - run.created_at).total_seconds(), 0.0))} ago",
    )


def _header(column: Column, order: Order) -> Header:
    is_chosen = order.column == column
    falls = not order.is_falling if is_chosen else column in _LARGEST_FIRST
    shown: Literal["ascending", "descending", "none"] = "none"
    if is_chosen:
        shown = "descending" if order.is_falling else "ascending"
    return Header(_NAMES[column], Order(column, falls).query, shown, column in _NUMBERS)


def _figures(listed: Sequence[Listed], costs: Mapping[str, Cost], now: datetime) -> tuple[tuple[str, str], ...]:
    """Return (value, name): what goes on, what bills now, what this month and all time have cost."""
    live = [one.run for one in listed if not one.run.phase.is_final]
    billing = [one.run for one in listed if one.run.may_bill]
    hourly = sum(run.price.total_hourly_usd for run in billing if run.price)
    unpriced = [run for run in billing if run.price is None]
    month = [one.run for one in listed if _month(costs[one.run.run_id]) == f"{now:%Y-%m}"]
    left = [run.eta_s for run in live if run.eta_s]
    shown = [
        (str(len(live)), "going on"),
        (f"{cents(hourly)} an hour" if hourly else "unknown" if unpriced else "nothing", "bills now"),
        (cents(float(_sum(costs, month))), f"{now:%B}"),
        (cents(float(sum((cost.usd for cost in costs.values()), Decimal(0)))), f"{len(listed)} runs"),
    ]
    return (*shown, (seconds(min(left)), "until the next is done")) if left else tuple(shown)


def _month(cost: Cost) -> str:
    return "" if cost.billed_from is None else f"{cost.billed_from:%Y-%m}"


def _sum(costs: Mapping[str, Cost], runs: Sequence[Run]) -> Decimal:
    return sum((costs[run.run_id].usd for run in runs), Decimal(0))
