"""The sizes that models take, read without timm, against what timm's own modules do."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from cloudrun.recipe.backbones import known_backbones
from cloudrun.recipe.problems import describe
from cloudrun.recipe.sizes import Sizes, _known, measure, sizes_of_backbone
from cloudrun.recipe.train_config import TrainConfig


@pytest.mark.parametrize("backbone", ["test_vit", "deit_tiny_patch16_224", "swiftformer_xs", "test_resnet"])
def test_the_stored_sizes_are_those_that_the_generator_finds(backbone: str) -> None:
    assert sizes_of_backbone(backbone) == measure(backbone)


def test_the_list_names_models_that_timm_has() -> None:
    assert set(_known()) <= set(known_backbones())
    assert list(_known()) == sorted(_known())


@pytest.mark.parametrize(
    ("sizes", "size", "takes", "nearest"),
    [
        (Sizes(240, 0), 240, True, [240]),
        (Sizes(240, 0), 480, False, [240]),
        (Sizes(224, 32), 256, True, [256, 288]),
        (Sizes(224, 32), 240, False, [224, 256]),
        (Sizes(224, 32), 20, False, [32]),
    ],
)
def test_a_size_is_taken_or_the_next_ones_are_named(sizes: Sizes, size: int, takes: bool, nearest: list[int]) -> None:
    assert (sizes.takes(size), sizes.nearest(size)) == (takes, nearest)


@pytest.mark.parametrize(
    ("section", "message", "hint"),
    [
        (
            {"backbones": "crossvit_tiny_240", "image_size": 224},
            "`crossvit_tiny_240` takes images of 240 px alone, and not 224 px",
            "set `image_size` to 240, or take another backbone",
        ),
        (
            {"backbones": ["resnet50", "maxvit_tiny_tf_224.in1k"], "image_size": 240},
            "`maxvit_tiny_tf_224.in1k` takes images of multiples of 32 px, and not 240 px",
            "set `image_size` to 224 or 256, or take another backbone",
        ),
        (
            {"backbones": "swin_tiny_patch4_window7_224", "image_size": 226},
            "`swin_tiny_patch4_window7_224` sees patches of 4 px, and 226 px are not a multiple",
            "set `image_size` to 224 or 228",
        ),
        (
            {"backbones": "efficientformer_l1", "image_size": 224, "start_image_size": 128},
            "`efficientformer_l1` takes images of 224 px alone, and not 128 px",
            "leave out `start_image_size`, or take another backbone",
        ),
    ],
)
def test_a_size_that_a_model_does_not_take_is_refused_before_renting(
    section: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainConfig.model_validate(section)
    (problem,) = describe(caught.value, TrainConfig)
    assert (problem.message, problem.hint) == (message, hint)


@pytest.mark.parametrize(
    ("backbone", "image_size"),
    [("resnet50", 333), ("crossvit_tiny_240", 240), ("swin_tiny_patch4_window7_224", 384), ("convnext_tiny", 225)],
)
def test_a_size_that_a_model_takes_is_not_refused(backbone: str, image_size: int) -> None:
    TrainConfig.model_validate({"backbones": backbone, "image_size": image_size})


def test_the_list_is_read_without_torch_or_timm() -> None:
    code = "import sys; from cloudrun.recipe.sizes import sizes_of_backbone as f; f('x'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
