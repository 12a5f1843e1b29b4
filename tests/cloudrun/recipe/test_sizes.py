"""The image sizes of a run and the views of its predictions, and which of them are refused before a launch."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cloudrun.recipe.evaluations import evaluated_at_the_end
from cloudrun.recipe.one_size import measure, sees_one_size
from cloudrun.recipe.problems import describe
from cloudrun.recipe.progressive import evaluation_size, final_epochs, size_at, sizes_seen, view_sizes, work_left
from cloudrun.recipe.train_config import TrainConfig
from cloudrun.recipe.views import View, has_views, views_of, work_of_views


def test_the_last_epochs_are_larger_and_evaluation_follows_them() -> None:
    config = TrainConfig(epochs=6, final_image_size=288)
    assert [size_at(epoch, config) for epoch in range(1, 7)] == [224, 224, 224, 224, 288, 288]
    assert evaluation_size(config) == 288
    assert evaluation_size(config.model_copy(update={"test_image_size": 320})) == 320
    assert work_left(epoch=5, step=0, steps_per_epoch=7, config=config) == pytest.approx(14 * (288 / 224) ** 2)


def test_small_images_grow_before_the_last_epochs() -> None:
    config = TrainConfig(epochs=10, start_image_size=128, final_image_size=256)
    assert [size_at(epoch, config) for epoch in range(1, 11)] == [128, 160, 160, 192, 192, 224, 224, 224, 256, 256]


@pytest.mark.parametrize(("epochs", "at_final"), [(1, 0), (2, 1), (3, 1), (8, 4), (30, 4)])
def test_at_most_half_of_a_run_is_at_its_final_size(epochs: int, at_final: int) -> None:
    assert final_epochs(TrainConfig(epochs=epochs, final_image_size=256, final_epochs=4)) == at_final


def test_without_a_final_size_no_epoch_is_final() -> None:
    config = TrainConfig()
    assert (final_epochs(config), evaluation_size(config), sizes_seen(config)) == (0, 224, [224])


def test_views_are_counted_by_their_pixels() -> None:
    config = TrainConfig(tta="dihedral", tta_sizes=(1, 1.25))
    assert view_sizes(config) == (224, 288)
    assert len(views_of(config)) == 16
    assert views_of(config)[:3] == (View(224), View(224, is_mirrored=True), View(224, quarter_turns=1))
    assert work_of_views(config) == pytest.approx(8 + 8 * (288 / 224) ** 2)
    assert evaluated_at_the_end(config, train_images=50, val_images=10, test_images=20) == pytest.approx(
        30 * work_of_views(config)
    )


def test_without_views_only_test_images_are_evaluated_at_the_end_or_those_out_of_fold() -> None:
    assert not has_views(TrainConfig())
    assert evaluated_at_the_end(TrainConfig(), train_images=50, val_images=10, test_images=20) == 20
    assert evaluated_at_the_end(TrainConfig(folds=5), train_images=50, val_images=10, test_images=20) == 30


def problem(**changes: Any) -> tuple[str, str]:
    with pytest.raises(ValidationError) as caught:
        TrainConfig(**{"pretrained": False, **changes})
    (found,) = describe(caught.value, TrainConfig)
    return found.message, found.hint


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"final_image_size": 192}, "`image_size` is 224, and `final_image_size` 192: images grow", "raise"),
        ({"tta_sizes": [9]}, "9 in `tta_sizes` is neither a share from 0.25 to 4 nor whole pixels", "[1, 1.25]"),
        ({"tta_sizes": [64.5]}, "64.5 in `tta_sizes` is neither", "[224, 288]"),
        ({"tta_sizes": [1, 224]}, "`tta_sizes` asks twice for 224 px", "leave one"),
        ({"image_size": 1024, "tta_sizes": [4]}, "`tta_sizes` asks for 4096 px, and the most is 2048 px", "lower"),
        (
            {"backbones": "beit_base_patch16_224", "tta_sizes": [1, 1.25]},
            "`beit_base_patch16_224` takes images of one size alone, 224 px here, and `tta_sizes` asks for 288 px",
            "`tta: dihedral` needs no other size",
        ),
        (
            {"backbones": "beit_base_patch16_224", "test_image_size": 384},
            "`beit_base_patch16_224` takes images of one size alone, 224 px here, and `test_image_size` asks for 384",
            "leave out `test_image_size`",
        ),
        (
            {"backbones": "vit_small_patch14_dinov2", "image_size": 224, "tta_sizes": [1, 1.25]},
            "`vit_small_patch14_dinov2` sees patches of 14 px, and 288 px are not a multiple",
            "write pixels into `tta_sizes`: 280 or 294",
        ),
        (
            {"backbones": "vit_small_patch16_224", "test_image_size": 300},
            "`vit_small_patch16_224` sees patches of 16 px, and 300 px are not a multiple",
            "set `test_image_size` to 288 or 304",
        ),
    ],
)
def test_sizes_that_cannot_be_are_refused_with_a_way_out(changes: dict[str, Any], message: str, hint: str) -> None:
    said, advice = problem(**changes)
    assert message in said
    assert hint in advice


@pytest.mark.parametrize("name", ["beit_base_patch16_224", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_the_stored_list_is_what_the_generator_finds(name: str) -> None:
    assert sees_one_size(name) == measure(name)


@pytest.mark.parametrize(
    ("name", "sees_one"),
    [("efficientnet_b3", False), ("vit_small_patch16_224.augreg_in1k", False), ("beit_base_patch16_224", True)],
)
def test_some_backbones_see_one_size_alone(name: str, sees_one: bool) -> None:
    assert sees_one_size(name) == sees_one
