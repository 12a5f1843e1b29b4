"""The page of one run as `cloudrun ui` shows it: the report, and what changes while the run goes on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cloudrun.billing.cost import worst_case
from cloudrun.billing.receipt import Receipt
from cloudrun.protocol.machine_use import MachineSample
from cloudrun.protocol.metrics import MetricsRow
from cloudrun.render.report.machine import machine_findings
from cloudrun.render.report.page import Page, all_charts, page_of
from cloudrun.render.report.results import Results
from cloudrun.render.report.template import rendered
from cloudrun.render.report.wording import cents, seconds
from cloudrun.state.run import Run


@dataclass(frozen=True, slots=True)
class LivePart:
    """Progress of a run that goes on. `done`: the part of its epochs, `budget`: of its USD; None where not known."""

    where: str
    done: float | None
    budget_text: str
    budget: float | None
    trouble: str


def one_run_html(run: Run, results: Results, cost: Receipt, live: LivePart | None) -> str:
    """Return the page; `live` is None for a run that has ended."""
    return rendered("one_run.html", layout="site.html", live=live, page=page_of(run, results, cost))


def top_html(page: Page, live: LivePart) -> str:
    """Return the heading of the page, which changes while the run goes on."""
    return rendered("sections/top.html", live=live, page=page)


def curves_html(results: Results) -> str:
    """Return the charts of the page, which change with each epoch."""
    return rendered(
        "live_curves.html", curves=all_charts(results), idle=machine_findings(results.machine, results.metrics)
    )


def as_of_now(results: Results, metrics: Sequence[MetricsRow], machine: Sequence[MachineSample]) -> Results:
    """Return the results with the metrics and the machine's samples of now, where there are any."""
    return replace(results, metrics=metrics or results.metrics, machine=machine or results.machine)


def live_part(run: Run, cost: Receipt, metrics: Sequence[MetricsRow], now: datetime, trouble: str) -> LivePart:
    """Return how far `run` is, in epochs that are over and in dollars."""
    finished = max((row["epoch"] for row in metrics if row["kind"] == "val"), default=0)
    done = min(finished / run.epochs, 1.0) if run.epochs else None
    parts = [
        f"epoch {run.epoch} of {run.epochs}" if run.epoch and run.epochs else run.phase.value,
        f"about {seconds(run.eta_s)} left" if run.eta_s else "",
        _heard(run, now),
    ]
    spent = cost["cost_usd"]
    limit = _limit_usd(run)
    text = f"{cents(spent)} of at most {cents(limit)}" if limit else ""
    return LivePart(", ".join(filter(None, parts)), done, text, min(spent / limit, 1.0) if limit else None, trouble)


def _heard(run: Run, now: datetime) -> str:
    """Return how old the news is, where it is not of now."""
    if run.refreshed_at is None:
        return ""
    silent_s = (now - run.refreshed_at).total_seconds()
    return f"last heard of {seconds(silent_s)} ago" if silent_s > 30 else ""


def _limit_usd(run: Run) -> float | None:
    """Return what the run may cost at most; None where it costs nothing, or where no limit is known."""
    hourly, budget = run.price.total_hourly_usd if run.price else 0.0, run.job.get("budget")
    if not hourly or not budget:
        return None
    worst = worst_case(max_cost=budget["max_cost"], max_hours=budget["max_hours"], hourly_usd=hourly)
    return float(worst.usd)
