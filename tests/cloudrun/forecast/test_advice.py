"""`cloudrun advise JOB.yaml`: the cheapest machine for a deadline, the fastest for a budget."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cloudrun.backends import Offer
from cloudrun.cli.advise import scatter
from cloudrun.forecast.advice import Advice, advise, frontier
from cloudrun.forecast.workload import workload_of
from tests.support.plans import a_plan
from tests.support.shell import Shell

AS_OF = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def an_offer(gpu: str, hourly: float, spot: float | None = None, infra: str = "runpod") -> Offer:
    return Offer(
        infra=infra, region=None, machine=f"m-{gpu}", gpu=gpu, memory_gb=24, cpus=16, host_memory_gb=64,
        hourly_usd=hourly, spot_usd=spot, source="test", as_of=AS_OF,
    )  # fmt: skip


OFFERS = [an_offer("RTX3090:1", 0.3, 0.15), an_offer("RTX4090:1", 0.7), an_offer("H100:1", 2.5), an_offer("T4:1", 0.9)]


def advice(offers: list[Offer] = OFFERS, images: int = 100_000, **keys: Any) -> Advice:
    limits = {"deadline_s": keys.pop("deadline_s", None), "max_usd": keys.pop("max_usd", None)}
    plan = a_plan(gpu="A100:1", **keys)
    workload = workload_of(plan.spec, {"train": images, "val": images // 10}, 10**9)
    return advise(offers, plan, workload, [], **limits)


def test_the_cheapest_by_a_deadline_is_by_the_slow_end_of_its_estimate() -> None:
    free = advice().cheapest
    assert free is not None
    assert (free.offer.gpu, free.spot) == ("RTX3090:1", True)
    hurried = advice(deadline_s=free.seconds - 1).cheapest
    assert hurried is not None
    assert hurried.seconds < free.seconds
    assert hurried.usd > free.usd


def test_the_fastest_for_a_budget_costs_no_more_at_its_slow_end() -> None:
    free = advice().fastest
    assert free is not None
    assert free.offer.gpu == "H100:1"
    thrifty = advice(max_usd=free.usd - 0.01).fastest
    assert thrifty is not None
    assert thrifty.usd < free.usd
    assert thrifty.seconds > free.seconds


def test_where_no_machine_keeps_to_a_limit_none_is_named() -> None:
    hopeless = advice(deadline_s=1, max_usd=0.0001)
    assert (hopeless.cheapest, hopeless.fastest) == (None, None)
    assert hopeless.frontier


def test_no_choice_of_the_frontier_is_beaten_in_both() -> None:
    found = advice()
    assert {one.offer.gpu for one in found.frontier} == {"RTX3090:1", "RTX4090:1", "H100:1"}
    times = [one.seconds for one in found.frontier]
    dollars = [one.usd for one in found.frontier]
    assert times == sorted(times)
    assert dollars == sorted(dollars, reverse=True)
    assert frontier(list(found.choices)[::-1]) == list(found.frontier)


def test_a_dearer_machine_that_is_hardly_faster_is_not_on_the_frontier() -> None:
    same = advice([an_offer("RTX4090:1", 0.7), an_offer("RTX4090:1", 0.9, infra="vast")])
    assert [one.offer.infra for one in same.frontier] == ["runpod"]


def test_folds_may_go_to_a_machine_each_which_costs_each_machines_start() -> None:
    found = advice([an_offer("RTX4090:1", 0.7)], train={"folds": 5, "fold": "all"})
    one, five = sorted(found.choices, key=lambda choice: choice.machines)
    assert (one.machines, five.machines) == (1, 5)
    assert five.seconds < one.seconds / 3
    assert one.usd < five.usd < one.usd * 1.5
    assert advice([an_offer("RTX4090:1", 0.7)], train={"folds": 5}).choices[0].machines == 1


def test_an_offer_without_an_estimate_is_named_and_not_advised() -> None:
    found = advice(images=0)
    assert found.choices == ()
    assert found.unknown == ("its images are not on this computer, so nobody has counted them",)


def test_the_plot_has_each_choice_within_its_axes() -> None:
    drawn = scatter(advice(), width=40, height=8)
    rows = drawn.splitlines()
    assert len(rows) == 10
    assert all(len(row) <= 11 + 40 for row in rows)
    assert drawn.count("*") == 3
    alone = scatter(advice([an_offer("RTX4090:1", 0.7)]), width=40, height=8)
    assert alone.count("*") == 1


@pytest.mark.parametrize("deadline", ["0h", "2", "soon", "-1h"])
def test_a_deadline_is_a_time_from_now(shell: Shell, deadline: str) -> None:
    done = shell("advise", f"--deadline={deadline}", "plants.yaml")
    assert done.code == 2
    assert "is no time from now" in done.err


@pytest.mark.slow  # SkyPilot itself is asked first whether a cloud is enabled
def test_advise_without_an_account_is_by_list_prices(shell: Shell) -> None:
    (shell.folder / "j.yaml").write_text("name: j\ngpu: A100:1\ndata: {source: 'demo://leaves'}\n")
    done = shell("advise", "--deadline", "3h", "--max-cost", "1", "j.yaml")
    assert "list price" in done.err
    assert done.out.startswith("cheapest  done within 3 h 00 min: ")
    assert "\nfastest   for $1 at the most: " in done.out
    plain = shell("advise", "--json", "j.yaml").json
    assert plain["cheapest"]["cost_usd"] <= plain["fastest"]["cost_usd"]
    assert plain["frontier"][0]["duration_high_s"] <= plain["frontier"][-1]["duration_high_s"]
