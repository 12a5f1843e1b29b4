"""What each backbone expects of its images."""

from typing import Any

import pytest

from cloudrun.recipe.inputs import IMAGENET_MEAN, IMAGENET_STD, Colouring, Inputs, inputs_from, inputs_of

HALF: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "crop_pct": 0.9}
PLAIN: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "interpolation": "bilinear", "crop_pct": 0.875}


def test_each_backbone_has_its_colouring_and_the_first_decides_the_pixels() -> None:
    inputs = inputs_of([HALF, PLAIN])
    assert inputs.colourings == (Colouring((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), Colouring())
    assert (inputs.interpolation, inputs.crop) == ("bicubic", 0.9)
    assert inputs_of([PLAIN, HALF]).interpolation == "bilinear"
    assert inputs_of([{}]) == Inputs((Colouring(),), "bicubic", 0.875)


def test_colours_are_changed_from_those_of_imagenet_where_they_differ() -> None:
    assert Colouring().from_imagenet() is None
    change = Colouring((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)).from_imagenet()
    assert change is not None
    for pixel in (0.0, 0.3, 1.0):
        for channel, (factor, summand) in enumerate(zip(*change, strict=True)):
            normalised = (pixel - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
            assert normalised * factor + summand == pytest.approx((pixel - 0.5) / 0.25)


@pytest.mark.parametrize(
    ("crop", "image_size", "side"), [(0.875, 224, 256), (0.875, 128, 146), (0.9, 224, 248), (1.0, 518, 518)]
)
def test_the_shorter_side_is_resized_as_timm_does(crop: float, image_size: int, side: int) -> None:
    assert Inputs((Colouring(),), crop=crop).resized_side(image_size) == side


def test_a_checkpoint_says_what_its_images_were_and_an_older_one_had_those_of_imagenet() -> None:
    inputs = inputs_of([HALF, PLAIN])
    assert inputs_from(inputs.as_plain(), backbones=2) == inputs
    assert inputs_from(None, backbones=2) == Inputs((Colouring(), Colouring()))
