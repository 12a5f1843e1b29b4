"""Which notices are due, as rows of what the machine shows."""

from __future__ import annotations

from typing import Any

import pytest

from cloudrun.protocol.messages import Result
from cloudrun.protocol.words import EndReason
from cloudrun.worker.due import Seen, due
from tests.support.orders import an_order

BILLED = {"hourly_usd": 2.0, "ending": "slurm", "max_cost_usd": 1.0, "max_hours": 4.0}


def ended(reason: EndReason, **seen: Any) -> Seen:
    result = Result(reason, 0, "the message", "2026-11-24T12:00:00Z", "2026-11-24T13:00:00Z")
    return Seen(**{"billed_s": 900.0, "result": result, **seen})


def told(seen: Seen, **order: Any) -> list[str]:
    order = {**BILLED, **order}
    return [f"{notice.event}: {notice.text}" for _, notice in due(an_order("true", **order), seen, {"started"})]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Seen(billed_s=10.0), []),
        (Seen(billed_s=1439.0), []),
        (Seen(billed_s=1440.0), ["budget_80: 80% of the budget is used: 24.0 min, $0.80 of 4.00 h and $1.00"]),
        (
            Seen(billed_s=10.0, validation={"kind": "val", "epoch": 1, "accuracy": 0.5, "loss": float("nan")}),
            ["validated: first validation, epoch 1: accuracy 0.5"],
        ),
        (ended(EndReason.FINISHED), ["finished: 15.0 min, $0.50 used"]),
        (
            ended(
                EndReason.FINISHED, score={"metric_name": "accuracy", "best_metric": 0.93125, "best_epoch": 12}
            ),
            ["finished: accuracy 0.9313 at epoch 12; 15.0 min, $0.50 used"],
        ),
        (ended(EndReason.FINISHED, score={"metric_name": [], "best_metric": "x"}), ["finished: 15.0 min, $0.50 used"]),
        (ended(EndReason.NO_GPU), ["failed: the message; 15.0 min, $0.50 used"]),
        (ended(EndReason.STALLED), ["failed: the message; 15.0 min, $0.50 used"]),
        (ended(EndReason.BUDGET), ["budget: the message; 15.0 min, $0.50 used"]),
        (ended(EndReason.PREEMPTED), ["preempted: the message; 15.0 min, $0.50 used"]),
        (ended(EndReason.STOPPED), ["stopped: the message; 15.0 min, $0.50 used"]),
        (ended(EndReason.FINISHED, billed_s=1500.0), ["finished: 25.0 min, $0.83 used"]),  # 80 % is no news any more
    ],
)  # fmt: skip
def test_a_notice_is_due(seen: Seen, expected: list[str]) -> None:
    assert told(seen) == expected


@pytest.mark.parametrize(
    ("seen", "order", "expected"),
    [
        (ended(EndReason.FAILED, result_age_s=299.0), {}, 0),
        (ended(EndReason.FAILED, result_age_s=301.0), {}, 1),
        (ended(EndReason.FAILED, result_age_s=301.0, is_safe=True), {}, 0),
        (ended(EndReason.FAILED, result_age_s=301.0), {"ending": "nobody"}, 0),
        (ended(EndReason.FAILED, result_age_s=301.0), {"hourly_usd": 0.0}, 0),
        (ended(EndReason.FAILED, result_age_s=0.0, is_safe=True), {"on_finish": "keep"}, 1),
    ],
)
def test_a_machine_that_waits_and_bills_is_told_of(seen: Seen, order: dict[str, Any], expected: int) -> None:
    texts = [one for one in told(seen, **order) if one.startswith("still_billing")]
    assert len(texts) == expected
    assert all("$2.00 an hour; `cloudrun down r`" in text for text in texts)


def test_a_machine_that_goes_on_waiting_is_told_of_each_hour() -> None:
    order, said = an_order("true", **BILLED), {"started"}
    counts = []
    for age_s in (100.0, 400.0, 500.0, 3800.0, 3950.0, 7600.0):
        ready = due(order, ended(EndReason.FINISHED, result_age_s=age_s, billed_s=0.0), said)
        said |= {key for key, _ in ready}
        counts.append(sum(notice.event == "still_billing" for _, notice in ready))
    assert counts == [0, 1, 0, 0, 1, 1]


def test_no_notice_is_due_twice() -> None:
    order, seen = an_order("true", **BILLED), ended(EndReason.BUDGET, result_age_s=400.0)
    first = due(order, seen, ())
    assert [notice.event.value for _, notice in first] == ["started", "budget", "still_billing"]
    assert due(order, seen, {key for key, _ in first}) == []
    assert first[1][1].facts == {"duration_s": 900.0, "cost_usd": 0.5, "reason": "budget", "exit_code": 0}
