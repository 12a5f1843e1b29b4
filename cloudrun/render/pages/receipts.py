"""Receipts by month: what each month has cost, on which GPUs, for which runs. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cloudrun.billing.receipt import Receipt
from cloudrun.render.report.template import rendered
from cloudrun.text.units import times


@dataclass(frozen=True, slots=True)
class Spent:
    """Runs, hours and USD of a GPU or of a month; `share`: of the month's USD, 0 to 1."""

    name: str
    runs: int
    hours: float
    usd: float
    share: float
    style: int = 0


@dataclass(frozen=True, slots=True)
class Paid:
    """A run's part of a month."""

    run_id: str
    gpu: str
    infra: str
    since: str
    hours: float
    usd: float
    is_final: bool


@dataclass(frozen=True, slots=True)
class MonthSection:
    """A month in which bills began (UTC): all together, by GPU with the dearest first, and each run."""

    together: Spent
    gpus: tuple[Spent, ...]
    runs: tuple[Paid, ...]


@dataclass(frozen=True, slots=True)
class ReceiptsPage:
    """`largest_usd`: of a month. `unbilled`: the runs that never had a machine."""

    months: tuple[MonthSection, ...]
    together: Spent
    largest_usd: float
    unbilled: int
    troubles: tuple[str, ...]


def receipts_html(page: ReceiptsPage) -> str:
    """Return the page of the receipts."""
    return rendered("receipts.html", layout="site.html", page=page)


def receipts_page(costs: Sequence[Receipt], troubles: Sequence[str] = ()) -> ReceiptsPage:
    """Return the months, the newest first; `troubles`: a line for each run whose receipt cannot be made."""
    by_month: dict[str, list[Receipt]] = defaultdict(list)
    for cost in costs:
        if cost["billed_from"] is not None:
            by_month[str(cost["billed_from"])[:7]].append(cost)
    months = tuple(_month(name, several) for name, several in sorted(by_month.items(), reverse=True))
    billed = [cost for several in by_month.values() for cost in several]
    return ReceiptsPage(
        months=months,
        together=_spent("all", billed, _usd(billed)),
        largest_usd=max((month.together.usd for month in months), default=0.0),
        unbilled=len(costs) - len(billed),
        troubles=tuple(troubles),
    )


def _month(name: str, costs: Sequence[Receipt]) -> MonthSection:
    total = _usd(costs)
    by_gpu: dict[str, list[Receipt]] = defaultdict(list)
    for cost in costs:
        by_gpu[_gpu(cost)].append(cost)
    gpus = sorted(
        (_spent(gpu, several, total) for gpu, several in by_gpu.items()), key=lambda one: (-one.usd, one.name)
    )
    styled = tuple(
        Spent(one.name, one.runs, one.hours, one.usd, one.share, style % 8) for style, one in enumerate(gpus)
    )
    newest = sorted(costs, key=lambda cost: (str(cost["billed_from"]), cost["run_id"]), reverse=True)
    return MonthSection(_spent(name, costs, total), styled, tuple(map(_paid, newest)))


def _spent(name: str, costs: Sequence[Receipt], total_usd: float) -> Spent:
    usd = _usd(costs)
    hours = round(sum(cost["hours"] for cost in costs), 4)
    return Spent(name, len(costs), hours, usd, usd / total_usd if total_usd else 0.0)


def _paid(cost: Receipt) -> Paid:
    return Paid(
        run_id=cost["run_id"],
        gpu=_gpu(cost),
        infra=cost["infra"] or "–",
        since=str(cost["billed_from"]),
        hours=cost["hours"],
        usd=cost["cost_usd"],
        is_final=cost["is_final"],
    )


def _gpu(cost: Receipt) -> str:
    return times(cost["nodes"], cost["gpu"]) if cost["gpu"] else "no GPU"


def _usd(costs: Sequence[Receipt]) -> float:
    return round(sum(cost["cost_usd"] for cost in costs), 4)
