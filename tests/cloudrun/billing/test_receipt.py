"""The receipt: every second has a name, every dollar bought something or is said to have bought nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from cloudrun.backends import Offer
from cloudrun.billing.overdue import overdue
from cloudrun.billing.receipt import receipt
from cloudrun.forecast.alternatives import alternatives
from cloudrun.render.receipt_text import months, receipt_text, receipts_csv
from cloudrun.state.records import BilledElsewhere, Estimate, Interval, Part
from tests.support.runs import START, a_skypilot_run, a_slurm_quote


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def phase(name: str, start_s: int, end_s: int) -> dict[str, Any]:
    return {"name": name, "from": at(start_s).isoformat(), "to": at(end_s).isoformat(), "seconds": end_s - start_s}


def val(epoch: int, end_s: int, accuracy: float) -> dict[str, Any]:
    return {"kind": "val", "epoch": epoch, "accuracy": accuracy, "time": at(end_s).isoformat()}


def test_the_receipt_accounts_for_every_second() -> None:
    run = a_skypilot_run(
        billed_from=START,
        released_at=at(240),
        past_phases=(phase("run", 40, 100),),
        phases=(phase("prepare", 110, 120), phase("sync", 120, 125), phase("run", 125, 190)),
        fetch_began_at=at(191),
        home_at=at(220),
    )
    phases = receipt(run, START)["phases"]
    assert [(one["name"], one["duration_s"]) for one in phases] == [
        ("provision", 40.0), ("train", 60.0), ("idle", 10.0), ("setup", 10.0), ("sync", 5.0), ("train", 65.0),
        ("idle", 1.0), ("upload", 29.0), ("release", 20.0),
    ]  # fmt: skip
    assert sum(one["duration_s"] for one in phases) == 240
    assert sum(one["cost_usd"] for one in phases) == pytest.approx(receipt(run, START)["cost_usd"], abs=0.0005)


def test_a_bill_that_ends_before_it_begins_is_called_unknown() -> None:
    said = receipt_text(
        receipt(a_skypilot_run(billed_from=START, released_at=at(-3 * 86400), end_is_proven=True), START)
    )
    assert "a clock was set back meanwhile: nobody knows these hours" in said
    assert "set back" not in receipt_text(receipt(a_skypilot_run(billed_from=START, released_at=at(0)), START))


def test_each_epoch_has_its_price_and_the_money_that_bought_nothing_is_named() -> None:
    run = a_skypilot_run(
        quote=a_slurm_quote(3.6), billed_from=START, released_at=at(500), phases=(phase("run", 100, 460),)
    )
    rows = [val(1, 200, 0.50), val(2, 300, 0.90), val(3, 400, 0.80)]  # a tenth of a cent a second
    cost = receipt(run, START, rows)
    assert [(row["duration_s"], row["cost_usd"]) for row in cost["epochs"]] == [(100.0, 0.1)] * 3
    assert cost["accuracy"] == {
        "first": 0.5, "best": 0.9, "best_epoch": 2, "usd_per_point": 0.0025, "usd_after_best": 0.1,
    }  # fmt: skip
    assert "after epoch 2 $0.1000 bought nothing" in receipt_text(cost)


def test_the_time_between_two_machines_of_a_resumed_run_is_no_phase() -> None:
    first = Interval(quote=a_slurm_quote(), billed_from=START, released_at=at(60))
    run = a_skypilot_run(
        earlier=(first,),
        billed_from=at(1000),
        released_at=at(1090),
        past_phases=(phase("prepare", 2, 5), phase("run", 5, 50)),
        phases=(phase("run", 1030, 1080),),
        fetch_began_at=at(1080),
        home_at=at(1085),
    )
    cost = receipt(run, at(2000))
    assert [(one["name"], one["duration_s"]) for one in cost["phases"]] == [
        ("provision", 2.0), ("setup", 3.0), ("train", 45.0), ("idle", 10.0),
        ("provision", 30.0), ("train", 50.0), ("upload", 5.0), ("release", 5.0),
    ]  # fmt: skip
    assert sum(one["duration_s"] for one in cost["phases"]) == pytest.approx(cost["hours"] * 3600, abs=0.01) == 150
    assert ", on 2 machines one after another" in receipt_text(cost)


def test_of_epochs_with_the_same_accuracy_the_best_is_the_trainers_the_one_with_the_lower_loss() -> None:
    rows = [{**val(1, 100, 0.9), "loss": 0.5}, {**val(2, 200, 1.0), "loss": 0.04}, {**val(3, 300, 1.0), "loss": 0.02}]
    worth = receipt(a_skypilot_run(quote=a_slurm_quote(3.6), billed_from=START), START, rows)["accuracy"]
    assert worth is not None
    assert worth["best_epoch"] == 3


def test_an_epoch_after_a_pause_pays_for_itself_alone() -> None:
    run = a_skypilot_run(billed_from=START, past_phases=(phase("run", 0, 110),), phases=(phase("run", 1000, 1200),))
    assert [row["duration_s"] for row in receipt(run, START, [val(1, 100, 0.5), val(2, 1100, 0.6)])["epochs"]] == [
        100.0, 100.0,
    ]  # fmt: skip


def test_skypilots_count_agrees_over_the_same_time_and_the_difference_is_explained() -> None:
    theirs = BilledElsewhere(seconds=180, usd=1.29 * 180 / 3600, began_at=at(2), ended_at=at(182))
    compared = receipt(a_skypilot_run(billed_from=START, released_at=at(190), sky_account=theirs), START)["skypilot"]
    assert (compared["agrees_to_the_cent"], compared["difference_s"]) == (True, 10.0)
    assert "2 s before" in compared["why"]
    assert "8 s later" in compared["why"]


def test_another_rate_than_skypilots_is_said_loudly() -> None:
    theirs = BilledElsewhere(seconds=3600, usd=1.50)
    cost = receipt(
        a_skypilot_run(billed_from=START, released_at=at(3600), end_is_proven=True, sky_account=theirs), START
    )
    assert "ANOTHER RATE" in receipt_text(cost)


def test_a_disk_is_billed_beside_its_machine() -> None:
    with_disk = a_slurm_quote(1.0).model_copy(update={"disk_hourly_usd": 0.25})
    cost = receipt(a_skypilot_run(quote=with_disk, billed_from=START, released_at=at(3600)), START)
    assert (cost["hourly_usd"], cost["disk_hourly_usd"], cost["cost_usd"]) == (1.0, 0.25, 1.25)


def test_runs_add_up_by_month_and_as_a_spreadsheet() -> None:
    october, november = START - timedelta(days=40), START
    runs = [
        a_skypilot_run(billed_from=start, released_at=start + timedelta(hours=1))
        for start in (october, november, november)
    ]
    costs = [receipt(run, START) for run in runs]
    assert [(row["month"], row["runs"], row["cost_usd"]) for row in months(costs)] == [
        ("2026-10", 1, 1.29), ("2026-11", 2, 2.58),
    ]  # fmt: skip
    head, *lines = receipts_csv(costs).splitlines()
    assert head.split(",")[0] == "run_id"
    assert len(lines) == 3


def an_estimate(low_usd: float, high_usd: float, low_s: float, high_s: float) -> Estimate:
    part = Part(name="train", low_s=low_s, high_s=high_s)
    return Estimate(
        parts=(part,), low_s=low_s, high_s=high_s, low_usd=low_usd, high_usd=high_usd, rests_on="the listed speed"
    )


def test_what_was_estimated_stands_beside_what_it_took() -> None:
    run = a_skypilot_run(
        billed_from=START, released_at=at(1000), estimate=an_estimate(0.2, 0.5, 600, 1600), projected_s=950.0,
        projected_usd=0.34,
    )  # fmt: skip
    made = receipt(run, START)["estimate"]
    assert (made["off"], made["corrected_off"], made["actual_s"]) == (0.1, -0.05, 1000.0)
    assert "(+10% of what it took)" in receipt_text(receipt(run, START))


def test_how_far_off_it_was_is_not_said_before_the_bill_has_ended() -> None:
    run = a_skypilot_run(billed_from=START, estimate=an_estimate(0.2, 0.5, 600, 1600))
    assert receipt(run, at(10))["estimate"]["off"] is None


def test_the_same_run_elsewhere_is_priced_by_the_listed_speed_of_each_card() -> None:
    def offer(infra: str, gpu: str, hourly: float, spot: float | None = None) -> Offer:
        return Offer(infra, None, "m", gpu, None, 16.0, 64.0, hourly, spot, "catalog", START)

    job = {"name": "r", "data": {"source": "/d"}, "gpu": ["A100:1"], "infra": "aws"}
    run = a_skypilot_run(job=job, billed_from=START, released_at=at(3700), phases=(phase("run", 50, 3650),))
    offers = [offer("runpod", "A100:1", 1.0), offer("vast", "RTX4090:1", 0.3, 0.1), offer("aws", "H200:1", 9.0)]
    found = alternatives(run, offers)
    assert [(one.infra, one.spot) for one in found] == [
        ("vast", True), ("vast", False), ("runpod", False), ("aws", False),
    ]  # fmt: skip
    same_card = found[2]
    assert same_card.seconds == pytest.approx(3700, rel=0.2)  # more cores feed it than a quote without any says
    assert found[0].seconds > same_card.seconds > found[3].seconds


def test_a_run_that_bills_past_its_estimate_is_overdue_and_one_that_costs_nothing_never() -> None:
    past = a_skypilot_run(billed_from=START, estimate=an_estimate(0.1, 0.2, 60, 600))
    free = a_skypilot_run(quote=a_slurm_quote(0.0), billed_from=START, estimate=an_estimate(0.0, 0.0, 60, 600))
    assert overdue([past, free], at(300)) == []
    assert [(run.run_id, usd) for run, usd in overdue([past, free], at(3600))] == [("r", 0.2)]
