"""The pages of `cloudrun ui` as plain values."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cloudrun.billing.receipt import receipt
from cloudrun.protocol.metrics import MetricsRow
from cloudrun.render.pages.one import live_part
from cloudrun.render.pages.receipts import receipts_page
from cloudrun.render.pages.runs import Listed, Order, order_of, runs_page, score_of
from cloudrun.state.received import Summary
from cloudrun.state.records import Phase
from cloudrun.state.run import Run
from tests.support.runs import START, a_local_run, a_runpod_quote, a_skypilot_run

NOW = START + timedelta(hours=10)


def rented(run_id: str, hours: float, *, gpu: str = "RTX4090:1", days_ago: int = 0, **changes: Any) -> Run:
    """A run that has ended, at a dollar an hour."""
    since = START - timedelta(days=days_ago)
    fields = {
        "run_id": run_id, "created_at": since, "billed_from": since, "released_at": since + timedelta(hours=hours),
        "quote": a_runpod_quote(gpu, 1.0, disk_hourly_usd=0.0), "phase": Phase.SUCCEEDED,
    }  # fmt: skip
    return a_skypilot_run(**{**fields, **changes})


def val(epoch: int, accuracy: float) -> MetricsRow:
    return {"kind": "val", "epoch": epoch, "time": START.isoformat(), "accuracy": accuracy}


RUNS = [
    Listed(rented("a", 3), Summary(val_accuracy=0.7)),
    Listed(rented("b", 1, days_ago=2), Summary(val_accuracy=0.9)),
    Listed(rented("c", 2, days_ago=1), Summary()),
]


@pytest.mark.parametrize(
    ("order", "ids"),
    [
        (Order("since", is_falling=True), "acb"),
        (Order("since", is_falling=False), "bca"),
        (Order("cost", is_falling=True), "acb"),
        (Order("cost", is_falling=False), "bca"),
        (Order("score", is_falling=True), "bac"),
        (Order("score", is_falling=False), "abc"),  # a run without a score comes last either way
        (Order("run", is_falling=True), "cba"),
    ],
)
def test_runs_are_sorted_by_a_column(order: Order, ids: str) -> None:
    assert "".join(row.run_id for row in runs_page(RUNS, NOW, order).rows) == ids


def test_a_column_is_sorted_the_other_way_at_the_second_click() -> None:
    headers = {one.name: one for one in runs_page(RUNS, NOW, Order("cost", is_falling=True)).headers}
    assert (headers["cost"].order, headers["cost"].query) == ("descending", "sort=cost&order=asc")
    assert (headers["run"].order, headers["run"].query) == ("none", "sort=run&order=asc")
    assert order_of("cost", "") == Order("cost", is_falling=True)
    assert order_of("<script>", "desc") == Order()


def test_what_bills_now_and_what_the_month_has_cost_stand_at_the_top() -> None:
    live = rented("d", 0, released_at=None, phase=Phase.RUNNING, eta_s=600.0)
    figures = {name: value for value, name in runs_page([*RUNS, Listed(live, Summary())], NOW, Order()).figures}
    assert figures == {
        "going on": "1",
        "bills now": "$1.00 an hour",
        "November": "$16.00",
        "4 runs": "$16.00",
        "until the next is done": "10 min 00 s",
    }


def test_a_free_run_bills_nothing_and_a_machine_without_a_price_is_unknown() -> None:
    free = a_local_run("e", billed_from=START, quote=a_runpod_quote(hourly_usd=0.0, disk_hourly_usd=0.0))
    unpriced = a_skypilot_run(run_id="f", billed_from=START, quote=None)
    assert ("nothing", "bills now") in runs_page([Listed(free, Summary())], NOW, Order()).figures
    page = runs_page([Listed(unpriced, Summary())], NOW, Order())
    assert ("unknown", "bills now") in page.figures
    assert page.rows[0].cost == "unknown"


def test_a_score_is_the_runs_own_metric_and_the_best_so_far_while_it_trains() -> None:
    run = RUNS[0].run
    own = Summary(metric_name="val_quadratic_kappa", best_metric=0.81, val_accuracy=0.5)
    assert score_of(Listed(run, own)) == (0.81, "quadratic kappa")
    assert score_of(Listed(run, Summary(), [val(1, 0.4), val(2, 0.6), val(3, 0.5)])) == (0.6, "accuracy")
    assert score_of(Listed(run, Summary())) is None


def test_receipts_are_added_up_by_month_and_by_gpu() -> None:
    runs = [
        rented("a", 3), rented("b", 1, gpu="H100:1"), rented("c", 2), rented("d", 5, days_ago=31),
        a_skypilot_run(run_id="e", phase=Phase.FAILED),
    ]  # fmt: skip
    page = receipts_page([receipt(run, NOW) for run in runs])
    assert [(month.together.name, month.together.runs, month.together.usd) for month in page.months] == [
        ("2026-11", 3, 6.0),
        ("2026-10", 1, 5.0),
    ]
    assert [(gpu.name, gpu.runs, gpu.hours, gpu.usd) for gpu in page.months[0].gpus] == [
        ("RTX4090:1", 2, 5.0, 5.0),
        ("H100:1", 1, 1.0, 1.0),
    ]
    assert sum(gpu.share for gpu in page.months[0].gpus) == pytest.approx(1.0)
    assert (page.together.usd, page.largest_usd, page.unbilled) == (11.0, 6.0, 1)


def test_progress_counts_epochs_that_are_over_and_dollars_of_the_limit() -> None:
    run = rented("a", 0, released_at=None, phase=Phase.RUNNING, epoch=4, epochs=10, eta_s=60.0)
    shown = live_part(run, receipt(run, START + timedelta(hours=2)), [val(2, 0.5), val(3, 0.6)], NOW, "")
    assert shown.where == "epoch 4 of 10, about 1 min 00 s left"
    assert shown.done == pytest.approx(0.3)
    assert shown.budget_text == "$2.00 of at most $4.00"  # 4 hours at a dollar, within 5 dollars
    assert shown.budget == pytest.approx(0.5)
