"""Hours and dollars before a run: what they are made of, and what they rest on."""

from __future__ import annotations

from typing import Any

import pytest

from cloudrun.forecast.estimate import Machine, NoEstimate, after_s, estimate, start_s
from cloudrun.forecast.offers import StartOverBudget, exceeds, refuse_hopeless
from cloudrun.forecast.workload import Workload, workload_of
from cloudrun.job.plan import make_plan
from cloudrun.job.spec import Budget, JobSpec
from cloudrun.runs.forecast import Forecast
from cloudrun.state.records import Estimate, Measured, Part

KIND = "resnet50 224 px auto batch auto"


def a_spec(**job: Any) -> JobSpec:
    fields = {"name": "plants", "data": {"source": "/data"}, "gpu": "A100:1", "infra": "runpod"}
    return JobSpec.model_validate({**fields, "train": {"backbones": "resnet50", "epochs": 10}, **job})


def a_workload(**job: Any) -> Workload:
    return workload_of(a_spec(**job), {"train": 1000, "val": 100, "test": 200}, 130_000_000)


A100 = Machine(key="A100:1", infra="runpod", gpu="A100:1", cpus=16, hourly_usd=3.6)


def measured(**changes: Any) -> Measured:
    fields = {"kind": KIND, "machine": "A100:1", "infra": "runpod"}
    return Measured.model_validate({**fields, **changes})


def made(*history: Measured, workload: Workload | None = None, machine: Machine = A100, **options: bool) -> Estimate:
    value = estimate(workload or a_workload(), machine, history, **options)
    assert isinstance(value, Estimate)
    return value


def part(value: Estimate, name: str) -> tuple[float, float]:
    (found,) = [one for one in value.parts if one.name == name]
    return found.low_s, found.high_s


WHOLE = measured(
    images_per_s=500, evaluated_per_s=1000, start_s=20, provision_s=100, setup_s=50, sync_bytes=10_000_000, sync_s=1,
    upload_s=10, release_s=5,
)  # fmt: skip


def test_the_parts_add_up_and_each_second_costs() -> None:
    value = made()
    assert [one.name for one in value.parts] == ["provision", "setup", "sync", "train", "upload", "release"]
    assert value.low_s == pytest.approx(sum(one.low_s for one in value.parts), abs=0.1)
    assert value.high_usd == pytest.approx(value.high_s / 1000, abs=1e-3)
    assert value.middle_usd == pytest.approx((value.low_s + value.high_s) / 2000, abs=1e-3)


def test_a_first_run_rests_on_what_is_listed_and_says_so() -> None:
    value = made()
    assert value.rests_on == (
        "the listed speed of A100; typical times to start and set up a machine of runpod; a guessed uplink of 2.5 MB/s"
    )
    assert value.high_s > 2 * value.low_s


def test_a_run_of_the_same_kind_beats_what_is_listed() -> None:
    value = made(WHOLE)
    training = 20 + 10 * 1000 / 500 + (10 * 100 + 200) / 1000
    assert part(value, "train") == pytest.approx((training * 0.85, training * 1.15))
    assert value.rests_on == (
        "your last run of this kind on A100:1; start and set-up as in your last run on runpod;"
        " an uplink of 10.0 MB/s in your last transfer"
    )
    assert value.high_s < 1.4 * value.low_s


def test_three_runs_are_looked_back_on_and_their_spread_is_the_range() -> None:
    speeds = (400, 500, 450, 1)  # newest first
    value = made(*(measured(images_per_s=speed, evaluated_per_s=1000, start_s=20) for speed in speeds))
    low, high = part(value, "train")
    assert low == pytest.approx((20 + 10_000 / 500 + 1.2) * 0.93)
    assert high == pytest.approx((20 + 10_000 / 400 + 1.2) * 1.07)
    assert value.rests_on.startswith("your last 3 runs of this kind on A100:1")


@pytest.mark.parametrize(
    "other", [{"kind": "resnet18 224 px auto batch auto"}, {"machine": "RTX4090:1"}, {"images_per_s": None}]
)
def test_a_run_of_another_kind_or_machine_says_nothing_of_the_speed(other: dict[str, Any]) -> None:
    assert "listed speed" in made(WHOLE.model_copy(update=other)).rests_on


def test_a_machine_elsewhere_starts_at_its_own_pace() -> None:
    value = made(WHOLE.model_copy(update={"infra": "vast"}))
    assert "typical times to start and set up a machine of runpod" in value.rests_on
    assert part(value, "train")[1] < 50  # the speed of an A100 is the same there


def test_data_that_arrive_during_the_set_up_cost_no_time_of_their_own() -> None:
    value = made(WHOLE)  # 130 MB in 13 s, beside 50 s of set-up
    assert part(value, "sync") == (0, 0)
    slow = WHOLE.model_copy(update={"sync_s": 10})
    low, high = part(made(slow), "sync")
    assert low == pytest.approx(130 * 0.85 - 50 * 0.85)
    assert high == pytest.approx(130 * 1.15 - 50 * 1.15)


def test_a_run_that_goes_on_pays_for_what_is_left() -> None:
    rest = made(WHOLE, workload=a_workload().after(6), is_up=True)
    assert [one.name for one in rest.parts] == ["train", "upload", "release"]
    assert part(rest, "train")[0] == pytest.approx((20 + 4000 / 500 + 0.6) * 0.85)


def test_this_computer_costs_nothing_and_still_takes_time() -> None:
    here = Machine(key="this computer (2 cores)", infra="local", gpu=None, cpus=2, hourly_usd=0.0)
    value = made(workload=a_workload(infra="local", gpu=None), machine=here)
    assert (value.low_usd, value.high_usd, value.rests_on) == (0, 0, "a guess for 2 CPU cores")
    assert part(value, "sync") == (0, 0)
    assert value.low_s > 60


def test_a_price_that_only_renting_can_tell_leaves_the_dollars_open() -> None:
    value = made(machine=Machine(key="A100:1", infra="runpod", gpu="A100:1", cpus=None, hourly_usd=None))
    assert (value.low_usd, value.high_usd, value.middle_usd) == (None, None, None)


def test_a_command_of_ones_own_is_only_known_once_it_has_run() -> None:
    workload = a_workload(run="python train.py")
    nothing = estimate(workload, A100, [])
    assert isinstance(nothing, NoEstimate)
    assert "none like it has ended on A100:1 yet" in nothing.why
    value = made(measured(kind=workload.kind, command_s=100.0), workload=workload)
    assert part(value, "train") == pytest.approx((85, 115))


def test_images_that_are_not_here_cannot_be_counted() -> None:
    nothing = estimate(workload_of(a_spec(), {}, 0), A100, [])
    assert isinstance(nothing, NoEstimate)
    assert nothing.why == "its images are not on this computer, so nobody has counted them"


def test_a_backbone_that_nobody_counted_is_named_until_it_has_run_once() -> None:
    workload = a_workload(train={"backbones": "pit_b_224"})
    nothing = estimate(workload, A100, [])
    assert isinstance(nothing, NoEstimate)
    assert nothing.why.startswith("the work of pit_b_224 is not listed")
    assert made(WHOLE.model_copy(update={"kind": workload.kind}), workload=workload).low_s > 0


LEAST_S = {"provision": 60, "setup": 30, "sync": 10, "train": 150, "upload": 30, "release": 20}
FIVE_MINUTES = Estimate(
    parts=tuple(Part(name=name, low_s=low, high_s=2 * low) for name, low in LEAST_S.items()),
    low_s=300, high_s=600, low_usd=0.3, high_usd=0.6, rests_on="a test",
)  # fmt: skip


@pytest.mark.parametrize(
    ("budget", "is_over"),
    [({}, False), ({"max_cost": 0.5}, True), ({"max_hours": 0.1}, True), ({"max_cost": 0.6, "max_hours": 0.2}, False)],
)
def test_the_default_answer_is_no_where_the_estimate_exceeds_the_budget(
    budget: dict[str, float], is_over: bool
) -> None:
    assert exceeds(FIVE_MINUTES, Budget(**budget)) is is_over
    plan = make_plan(a_spec(budget=budget), "plants-1", python="python", base={"setup": ""})
    assert Forecast(plan, None, FIVE_MINUTES, None).fits_budget is not is_over


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"max_cost": 0.09}, r"1 min 40 s at the least, \$0.1000 at \$3.6000 an hour: nothing of `budget.max_cost`"),
        ({"max_hours": 0.02}, r"nothing of `budget.max_hours` \(0.02 h\) would be left to train"),
    ],
)
def test_a_launch_whose_start_breaks_the_budget_is_refused(budget: dict[str, float], said: str) -> None:
    with pytest.raises(StartOverBudget, match=said) as caught:
        refuse_hopeless(FIVE_MINUTES, Budget(**budget), 3.6)
    assert caught.value.exit_code == 2
    assert "raise it" in caught.value.hint


def test_a_launch_that_could_train_a_little_is_not_refused() -> None:
    refuse_hopeless(FIVE_MINUTES, Budget(max_cost=0.11, max_hours=0.03), 3.6)
    assert (start_s(FIVE_MINUTES), after_s(FIVE_MINUTES)) == (100, 75)
