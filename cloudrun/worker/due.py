"""Which notices of a run are due, and their texts, from what is seen on its machine. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cloudrun.notices.channel import Event
from cloudrun.notices.payload import Notice
from cloudrun.protocol.messages import Result
from cloudrun.protocol.order import Order
from cloudrun.protocol.words import EndReason, OnFinish
from cloudrun.worker.policy import time_text

STILL_BILLING_AFTER_S = 300.0
_STILL_BILLING_EVERY_S = 3600.0
_MUCH_OF_THE_BUDGET = 0.8
_ENDS = {
    EndReason.FINISHED: Event.FINISHED,
    EndReason.BUDGET: Event.BUDGET,
    EndReason.PREEMPTED: Event.PREEMPTED,
    EndReason.STOPPED: Event.STOPPED,
}


@dataclass(frozen=True)
class Seen:
    """What the machine shows of a run; `validation` is the first row of metrics that tells of a validation."""

    billed_s: float
    validation: dict[str, Any] | None = None
    result: Result | None = None
    result_age_s: float = 0.0
    is_safe: bool = False  # its results are at home or in the store
    score: dict[str, Any] | None = None  # of `summary.json`


def due(order: Order, seen: Seen, said: Collection[str]) -> list[tuple[str, Notice]]:
    """Return the notices that are due and not in `said`, each with its key for `said`."""
    found: list[tuple[str, Event, str]] = [(Event.STARTED.value, Event.STARTED, _start(order))]
    if seen.validation is not None:
        found.append((Event.VALIDATED.value, Event.VALIDATED, _validation(seen.validation)))
    limit_s = order.limit_s()
    if seen.result is None and limit_s > 0 and seen.billed_s >= _MUCH_OF_THE_BUDGET * limit_s:
        text = f"{_MUCH_OF_THE_BUDGET:.0%} of the budget is used: {_used(order, seen)} of {_limits(order)}"
        found.append((Event.BUDGET_80.value, Event.BUDGET_80, text))
    if seen.result is not None:
        end = _ENDS.get(seen.result.reason, Event.FAILED)
        found.append((f"end {seen.result.finished_at}", end, _end(order, seen, seen.result)))
        found += _still_billing(order, seen)
    facts = _facts(order, seen)
    return [(key, Notice(order.run_id, event, text, facts)) for key, event, text in found if key not in said]


def _still_billing(order: Order, seen: Seen) -> list[tuple[str, Event, str]]:
    """Return the notice that the machine waits: at once where it is kept, else after five minutes, and each hour."""
    if not order.ends_machine or not order.hourly_usd:
        return []
    rate = f"${order.hourly_usd:.2f} an hour; `cloudrun down {order.run_id}` fetches the results and ends it"
    if order.on_finish == OnFinish.KEEP:
        return [("still billing", Event.STILL_BILLING, f"the job has ended and its machine is kept, for {rate}")]
    if seen.is_safe or seen.result_age_s < STILL_BILLING_AFTER_S:
        return []
    count = int((seen.result_age_s - STILL_BILLING_AFTER_S) // _STILL_BILLING_EVERY_S)
    waits = f"the job ended {time_text(seen.result_age_s)} ago and its results are still on the machine, for {rate}"
    return [(f"still billing {count}", Event.STILL_BILLING, waits)]


def _start(order: Order) -> str:
    gpu = " or ".join(order.gpu_names)
    return f"set-up begins{f' on {gpu}' if gpu and order.gpu_count else ''}; the run may use {_limits(order)}"


def _validation(row: dict[str, Any]) -> str:
    figures = [f"{name} {row[name]:.4g}" for name in ("accuracy", "macro_f1", "loss") if _is_finite(row.get(name))]
    return f"first validation, epoch {row.get('epoch')}: {', '.join(figures) or 'no figures'}"


def _end(order: Order, seen: Seen, result: Result) -> str:
    score = ""
    if seen.score is not None and result.reason is EndReason.FINISHED:
        name, best = seen.score.get("metric_name"), seen.score.get("best_metric")
        if isinstance(name, str) and _is_finite(best):
            score = f"{name[:40]} {best:.4f} at epoch {seen.score.get('best_epoch')}; "
    message = "" if result.reason is EndReason.FINISHED else f"{result.message[:300]}; "
    return f"{message}{score}{_used(order, seen)} used"


def _facts(order: Order, seen: Seen) -> dict[str, Any]:
    facts: dict[str, Any] = {"duration_s": round(seen.billed_s, 1), "cost_usd": round(order.spent_by(seen.billed_s), 4)}
    if seen.result is not None:
        facts["reason"], facts["exit_code"] = seen.result.reason.value, int(seen.result.exit_code)
    return facts


def _used(order: Order, seen: Seen) -> str:
    money = f", ${order.spent_by(seen.billed_s):.2f}" if order.hourly_usd else ""
    return f"{time_text(seen.billed_s)}{money}"


def _limits(order: Order) -> str:
    money = f" and ${order.max_cost_usd:.2f}" if order.hourly_usd else ""
    return f"{time_text(order.max_hours * 3600)}{money}"


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
