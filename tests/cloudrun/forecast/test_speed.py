"""Listed speeds against published ones, and the rough rule of what a card's memory holds."""

from __future__ import annotations

from typing import Any

import pytest

from cloudrun.catalog.gpus import LISTED_SPEED, MEMORY_GB
from cloudrun.forecast.speed import listed_speed, memory_fit
from cloudrun.forecast.workload import Workload, workload_of
from cloudrun.job.spec import JobSpec

IMAGE_BYTES = 50_000


def a_workload(images: int = 1000, **train: Any) -> Workload:
    spec = JobSpec.model_validate({"name": "plants", "data": {"source": "/data"}, "train": train})
    return workload_of(spec, {"train": images, "val": 100, "test": 0}, (images + 100) * IMAGE_BYTES)


@pytest.mark.parametrize(
    ("gpu", "low_per_s", "high_per_s"),
    [("RTX3090", 340, 340), ("RTX4090", 445, 445), ("A100", 530, 680), ("H200", 1000, 1400)],
)
def test_the_champion_recipe_trains_as_fast_as_was_published(gpu: str, low_per_s: float, high_per_s: float) -> None:
    speed = listed_speed(a_workload(), gpu=f"{gpu}:1", cpus=64)
    assert speed is not None
    fastest, slowest = 1 / speed.train_s[0], 1 / speed.train_s[1]
    assert slowest < low_per_s <= high_per_s < fastest
    middle = 0.65 / speed.train_s[0]
    assert low_per_s / 1.1 < middle < high_per_s * 1.1
    assert speed.rests_on == f"the listed speed of {gpu}"


def test_every_gpu_that_may_be_asked_for_has_a_listed_speed() -> None:
    assert LISTED_SPEED.keys() == MEMORY_GB.keys()


def train_s(gpu: str | None, cpus: float = 64, **train: Any) -> float:
    speed = listed_speed(a_workload(**train), gpu=gpu, cpus=cpus)
    assert speed is not None
    return speed.train_s[0]


def test_four_times_the_pixels_take_about_four_times_as_long() -> None:
    ratio = train_s("A100:1", image_size=448) / train_s("A100:1", image_size=224)
    assert 2.5 < ratio < 4


def test_an_efficientnet_waits_for_memory_and_not_for_multipliers() -> None:
    """An L4 has more of the latter than an RTX 3090, and a third of the bandwidth."""
    assert train_s("L4:1", backbones="efficientnet_b3") > 1.8 * train_s("RTX3090:1", backbones="efficientnet_b3")


def test_fp32_is_slower() -> None:
    assert train_s("A100:1", precision="fp32") > 2 * train_s("A100:1")


def test_several_gpus_are_at_best_as_many_times_as_fast_and_may_wait_for_each_other() -> None:
    one, four = (listed_speed(a_workload(), gpu=f"A100:{count}", cpus=64) for count in (1, 4))
    assert one is not None
    assert four is not None
    assert four.train_s[0] == pytest.approx(one.train_s[0] / 4)
    assert one.train_s[1] / 4 < four.train_s[1] < one.train_s[1] / 2
    assert four.rests_on == "the listed speed of A100 times 4, or less where they wait for each other"


def test_several_machines_are_at_best_as_many_times_as_fast_and_may_wait_for_their_network() -> None:
    one, two = (listed_speed(a_workload(), gpu="A100:4", cpus=64, nodes=nodes) for nodes in (1, 2))
    assert one is not None
    assert two is not None
    assert two.train_s[0] == pytest.approx(one.train_s[0] / 2)
    assert two.train_s[1] > one.train_s[1] / 2


def test_images_that_begin_small_cost_less_but_are_judged_at_full_size() -> None:
    grown, whole = (
        listed_speed(a_workload(**train), gpu="A100:1", cpus=64)
        for train in ({"epochs": 4, "start_image_size": 112}, {"epochs": 4})
    )
    assert grown is not None
    assert whole is not None
    pixels = sum((size / 224) ** 2 for size in (112, 144, 176, 224))
    assert grown.train_s[0] == pytest.approx(whole.train_s[0] * pixels / 4)
    assert grown.evaluate_s == whole.evaluate_s


def test_larger_images_at_the_end_and_in_evaluation_cost_by_their_pixels() -> None:
    plain = listed_speed(a_workload(epochs=4), gpu="A100:1", cpus=64)
    larger = listed_speed(a_workload(epochs=4, final_image_size=448, final_epochs=1), gpu="A100:1", cpus=64)
    assert plain is not None
    assert larger is not None
    assert larger.train_s[0] == pytest.approx(plain.train_s[0] * (3 + 4) / 4)
    assert larger.evaluate_s[0] == pytest.approx(plain.evaluate_s[0] * 4)
    assert not memory_fit(a_workload(final_image_size=1024), "P4:1", None).fits


def test_views_are_counted_as_evaluations() -> None:
    plain, views = a_workload(epochs=4), a_workload(epochs=4, tta="dihedral")
    assert plain.evaluations == 4 * 100
    assert views.evaluations == 4 * 100 + 8 * 100  # validated once more, as test images are predicted


def test_few_cores_starve_a_fast_gpu_and_it_is_said() -> None:
    starved = listed_speed(a_workload(), gpu="H200:1", cpus=2)
    assert starved is not None
    assert starved.rests_on == "the listed speed of H200, held back by 1 loader process(es)"
    assert starved.train_s[0] > 3 * train_s("H200:1")


def test_a_cpu_is_a_guess_with_a_wide_range() -> None:
    speed = listed_speed(a_workload(), gpu=None, cpus=2)
    assert speed is not None
    assert speed.train_s[1] > 5 * speed.train_s[0]
    assert speed.rests_on == "a guess for 2 CPU cores"
    assert 0.5 < speed.train_s[0] * 2.5 < 0.8  # 38 GFLOP an image


def test_a_backbone_that_nobody_counted_has_no_speed() -> None:
    assert listed_speed(a_workload(backbones="pit_b_224"), gpu="A100:1", cpus=8) is None


@pytest.mark.parametrize(
    ("gpu", "train", "fits", "why"),
    [
        ("A100:1", {}, True, "about 277 images at once"),
        ("P4:1", {"image_size": 1024}, False, "8 images at once take about"),
        ("P4:1", {"backbones": "pit_b_224"}, True, "memory not checked"),
    ],
)
def test_memory_is_checked_by_a_rough_rule(gpu: str, train: dict[str, Any], fits: bool, why: str) -> None:
    fit = memory_fit(a_workload(**train), gpu, None)
    assert fit.fits is fits
    assert fit.why.startswith(why)
