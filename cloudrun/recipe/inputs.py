"""Describe the images that a model's weights expect: mean and deviation of each backbone, interpolation, crop.

Pure; imports neither torch nor timm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Interpolation = Literal["bilinear", "bicubic"]
Colours = tuple[float, float, float]

IMAGENET_MEAN: Colours = (0.485, 0.456, 0.406)
IMAGENET_STD: Colours = (0.229, 0.224, 0.225)
_CROP = 0.875  # 224 of 256 pixels


@dataclass(frozen=True, slots=True)
class Colouring:
    """The mean and the standard deviation that are removed from the red, green and blue of images from 0 to 1."""

    mean: Colours = IMAGENET_MEAN
    std: Colours = IMAGENET_STD

    def from_imagenet(self) -> tuple[Colours, Colours] | None:
        """Return the factors and summands that make such images of those with ImageNet's; None where they are equal."""
        if self == Colouring():
            return None
        factors = [own / std for own, std in zip(IMAGENET_STD, self.std, strict=True)]
        summands = [(own - mean) / std for own, mean, std in zip(IMAGENET_MEAN, self.mean, self.std, strict=True)]
        return (factors[0], factors[1], factors[2]), (summands[0], summands[1], summands[2])


@dataclass(frozen=True, slots=True)
class Inputs:
    """The images of an evaluation, and the colouring of each backbone.

    The shorter side is resized by `interpolation`, and the middle is cut out of it, `crop` of its length.
    """

    colourings: tuple[Colouring, ...]
    interpolation: Interpolation = "bilinear"
    crop: float = _CROP

    def resized_side(self, image_size: int) -> int:
        """Return the pixels of the shorter side of which the middle `image_size` pixels are seen."""
        return max(image_size, math.floor(image_size / self.crop))

    def as_plain(self) -> dict[str, Any]:
        return {
            "colourings": [{"mean": list(one.mean), "std": list(one.std)} for one in self.colourings],
            "interpolation": self.interpolation,
            "crop": self.crop,
        }


def inputs_of(pretrained_cfgs: Sequence[Mapping[str, Any]]) -> Inputs:
    """Return what timm's `pretrained_cfg` of each backbone says.

    All backbones see the same pixels: interpolation and crop are those of the first, which is named first for a reason.
    """
    first = pretrained_cfgs[0]
    interpolation: Interpolation = "bilinear" if first.get("interpolation") == "bilinear" else "bicubic"
    return Inputs(
        tuple(map(_colouring, pretrained_cfgs)),
        interpolation,
        float(first.get("crop_pct") or _CROP),
    )


def inputs_from(saved: Mapping[str, Any] | None, *, backbones: int) -> Inputs:
    """Return what `as_plain` wrote; None (older checkpoints): ImageNet's colouring for each of so many backbones."""
    if saved is None:
        return Inputs((Colouring(),) * backbones)
    return Inputs(tuple(map(_colouring, saved["colourings"])), saved["interpolation"], saved["crop"])


def _colouring(cfg: Mapping[str, Any]) -> Colouring:
    return Colouring(_colours(cfg, "mean", IMAGENET_MEAN), _colours(cfg, "std", IMAGENET_STD))


def _colours(cfg: Mapping[str, Any], key: str, otherwise: Colours) -> Colours:
    values = cfg.get(key)
    if values is None or len(values) != len(otherwise):
        return otherwise
    red, green, blue = values
    return float(red), float(green), float(blue)
