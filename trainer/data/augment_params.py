"""Draw the parameters of an augmentation from a seed: crop, flip, rotation and colours. Imports no torch."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import NamedTuple

from cloudrun.recipe.train_config import Flips, StrongAugment

_RATIOS = (3 / 4, 4 / 3)
_TRIES = 10
_PLAIN_SCALE_MIN = 0.5


@dataclass(frozen=True, slots=True)
class Ranges:
    """Ranges that parameters are drawn from; the names are those of the config."""

    crop_scale_min: float
    rotation_degrees: float
    color_jitter: float
    flips: Flips = "mirror"
    augment: StrongAugment = "none"
    rand_operations: int = 2
    rand_magnitude: int = 9
    random_erasing: float = 0.0

    @property
    def operations(self) -> int:
        """How many operations of strong augmentation an image has."""
        return {"none": 0, "trivial": 1, "rand": self.rand_operations}[self.augment]

    @property
    def is_strong(self) -> bool:
        """Whether there is more to draw than an `AugmentParams`."""
        return self.operations > 0 or self.random_erasing > 0

    def plain(self) -> Ranges:
        """Return the ranges of the last epochs, whose images are nearly those that are predicted."""
        scale_min = max(self.crop_scale_min, _PLAIN_SCALE_MIN)
        return replace(self, crop_scale_min=scale_min, augment="none", random_erasing=0.0)


class AugmentParams(NamedTuple):
    """Augmentation of one image: the box to crop, in fractions of the sides, and the changes to its content."""

    left: float
    top: float
    width: float
    height: float
    flip: float  # -1: mirrored, 1: not mirrored
    degrees: float  # counter-clockwise; with quarter turns from -rotation_degrees to 270 + rotation_degrees
    brightness: float
    contrast: float
    saturation: float


def draw_params(ranges: Ranges, seed: int, *, width: int, height: int) -> AugmentParams:
    """Return the parameters for one image, a pure function of the arguments.

    They are distributed as in torchvision's transforms of the same names. `width`, `height`: pixels of the original
    file, whatever size it was decoded to. With `flips: dihedral` each of the eight ways to lay a square on itself is as
    likely: a mirror and quarter turns, of which two with a mirror are a vertical flip. Every other parameter is the
    same for all `flips`.
    """
    rng = random.Random(seed)
    left, top, box_width, box_height = _box(rng, ranges.crop_scale_min, width, height)
    is_mirrored = rng.random() < 0.5 and ranges.flips != "none"
    degrees = rng.uniform(-ranges.rotation_degrees, ranges.rotation_degrees)
    jitter = ranges.color_jitter
    colours = [rng.uniform(1 - jitter, 1 + jitter) for _ in range(3)]
    if ranges.flips == "dihedral":  # drawn last, so that the other draws are those without
        degrees += 90 * rng.randrange(4)
    return AugmentParams(
        left / width,
        top / height,
        box_width / width,
        box_height / height,
        -1.0 if is_mirrored else 1.0,
        degrees,
        *colours,
    )


def _box(rng: random.Random, scale_min: float, width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, top, width and height of the crop in pixels.

    Source: torchvision's RandomResizedCrop, after Szegedy et al. 2014, arXiv:1409.4842, section 6.
    """
    for _ in range(_TRIES):
        area = width * height * rng.uniform(scale_min, 1.0)
        ratio = math.exp(rng.uniform(math.log(_RATIOS[0]), math.log(_RATIOS[1])))
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left, top = rng.randint(0, width - box_width), rng.randint(0, height - box_height)
            return left, top, box_width, box_height
    # No box fitted: take the largest box in the middle, with the nearest ratio.
    box_width = min(width, max(1, round(height * _RATIOS[1])))
    box_height = min(height, max(1, round(width / _RATIOS[0])))
    return (width - box_width) // 2, (height - box_height) // 2, box_width, box_height
