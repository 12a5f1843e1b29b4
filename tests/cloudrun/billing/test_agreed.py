"""What a machine may cost and how long it may take to come: by tables."""

from __future__ import annotations

from typing import Any

import pytest

from cloudrun.billing.agreed import agreed_usd, capped, is_price, is_too_dear, left_to_try, rent_limit_s
from cloudrun.job.spec import Budget
from cloudrun.render.tables import plan_text
from cloudrun.state.records import Fallback
from tests.support.plans import a_plan
from tests.support.runs import START, a_runpod_quote

AGREED = a_runpod_quote(fallbacks=(Fallback(gpu="A100-80GB:1", infra="runpod", total_hourly_usd=1.6537),))


@pytest.mark.parametrize(
    ("gpu", "hourly_usd", "is_dear"),
    [
        ("RTX4090:1", 0.7037, False),
        ("RTX4090:1", 0.774, False),  # what the provider says holds the disk: 10 % over 0.7037
        ("RTX4090:1", 0.775, True),
        ("RTX4090:1", 0.30, False),
        ("A100-80GB:1", 1.70, False),  # each of the list at its own price
        ("A100-80GB:1", 1.90, True),
        ("H100:1", 0.75, False),  # what was not shown is held against the first choice
        ("H100:1", 1.70, True),
    ],
)
def test_more_than_a_tenth_over_what_was_agreed_to_is_asked_about(gpu: str, hourly_usd: float, is_dear: bool) -> None:
    assert is_too_dear(AGREED, a_runpod_quote(gpu, hourly_usd, disk_hourly_usd=0.0)) is is_dear


def test_a_first_choice_that_stands_twice_in_the_list_is_at_its_own_price() -> None:
    twice = a_runpod_quote(fallbacks=(Fallback(gpu="RTX4090:1", infra="vast", total_hourly_usd=9.0),))
    assert agreed_usd(twice, "RTX4090:1") == pytest.approx(0.7037)


@pytest.mark.parametrize(
    ("infra", "hourly_usd", "is_one"),
    [("vast", 0.0, False), ("runpod/US", 0.0, False), ("Vast", 0.2, True), ("slurm", 0.0, True), ("local", 0.0, True),
     ("kubernetes/here", 0.0, True), ("ssh", 0.0, True)],
)  # fmt: skip
def test_nothing_an_hour_is_no_price_of_a_cloud_that_charges(infra: str, hourly_usd: float, is_one: bool) -> None:
    assert is_price(infra, hourly_usd) is is_one


def test_every_request_has_the_most_that_its_gpu_may_cost_an_hour() -> None:
    listed = {"resources": {"ordered": [{"accelerators": "RTX4090:1"}, {"accelerators": "A100-80GB:1"}]}}
    assert capped(listed, AGREED)["resources"]["ordered"] == [
        {"accelerators": "RTX4090:1", "max_hourly_cost": 0.7741},
        {"accelerators": "A100-80GB:1", "max_hourly_cost": 1.8191},
    ]
    one = {"name": "n", "resources": {"accelerators": "RTX4090:1"}}
    assert capped(one, AGREED) == {"name": "n", "resources": {"accelerators": "RTX4090:1", "max_hourly_cost": 0.7741}}


def test_a_second_choice_that_is_asked_for_alone_has_its_own_limit() -> None:
    second = {"resources": {"accelerators": "A100-80GB:1"}}
    assert capped(second, AGREED)["resources"]["max_hourly_cost"] == 1.8191


def test_skypilots_limit_is_of_one_machine_and_the_quote_of_all() -> None:
    config = {"resources": {"accelerators": "A100:1"}, "num_nodes": 2}
    agreed = a_runpod_quote("A100:1", 4.0, infra="aws", disk_hourly_usd=0.0, nodes=2)
    assert capped(config, agreed)["resources"]["max_hourly_cost"] == 2.2


def test_own_machines_have_no_price_to_limit() -> None:
    config = {"resources": {"infra": "slurm"}}
    assert capped(config, a_runpod_quote(infra="slurm")) == config


@pytest.mark.parametrize(
    ("budget", "hourly_usd", "spent", "limit_s"),
    [
        ({"max_cost": 5, "max_hours": 4}, 0.69, {}, 1200),
        ({"max_cost": 5, "max_hours": 1}, 0.69, {}, 900),
        ({"max_cost": 0.5, "max_hours": 4}, 1.0, {}, 450),
        ({"max_cost": 0.06, "max_hours": 4}, 0.72, {}, 225),  # of five minutes a quarter is kept
        ({"max_cost": 5, "max_hours": 4}, 0.0, {}, 1200),
        ({"max_cost": 5, "max_hours": 4}, 4.0, {"billed_s": 900, "spent_usd": 4.0}, 300),
        ({"max_cost": 5, "max_hours": 4}, 1.0, {"billed_s": 99999, "spent_usd": 9.0}, 0),
        ({"max_cost": 0.072, "max_hours": 4}, 0.72, {}, 270),  # of six minutes as well
        ({"max_cost": 5, "max_hours": 4, "rent_minutes": 90}, 0.69, {}, 5400),
        ({"max_cost": 0.1, "max_hours": 4, "rent_minutes": 90}, 1.0, {}, 270),  # renting alone is not to go over it
        ({"max_cost": 0.1, "max_hours": 4, "rent_minutes": 90}, 1.0, {"waiting_bills": False}, 5400),  # a queue
        ({"max_cost": 0.1, "max_hours": 4, "rent_minutes": 2}, 1.0, {}, 120),
    ],
)
def test_renting_has_a_deadline(
    budget: dict[str, float], hourly_usd: float, spent: dict[str, Any], limit_s: float
) -> None:
    assert rent_limit_s(Budget.model_validate(budget), hourly_usd, **spent) == pytest.approx(limit_s)


def test_the_plan_says_how_long_is_waited_and_what_that_can_cost() -> None:
    plan = a_plan(budget={"max_cost": 0.072, "max_hours": 4}, infra="runpod")
    quote = a_runpod_quote("RTX4090:1", 0.72, disk_hourly_usd=0.0)
    said = "waits    4 min 30 s at most for each machine that is asked for, $0.05 where it bills meanwhile"
    assert said in plan_text(plan, quote, START)
    assert "waits    20 min 00 s at most for each machine that is asked for (budget.rent" in plan_text(
        plan, None, START
    )


@pytest.mark.parametrize(
    ("gpus", "tried", "rest"),
    [
        (("A100:1", "RTX4090:1", "L40S:1"), "RTX4090:1", ("L40S:1",)),
        (("A100:1", "RTX4090:1"), None, ("RTX4090:1",)),
        (("A100:1", "A100-80GB:1", "L40S:1"), "A100-80GB:1", ("L40S:1",)),
        (("A100:1", "L40S:1"), "A100-80GB-SXM:1", ("L40S:1",)),
        (("A100:1",), "A100:1", ()),
        ((), None, ()),
    ],
)
def test_the_next_is_what_the_list_has_after_it(
    gpus: tuple[str, ...], tried: str | None, rest: tuple[str, ...]
) -> None:
    assert left_to_try(gpus, tried) == rest
