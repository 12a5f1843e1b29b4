"""Mixup and cutmix: each image of a batch is blended with, or gets a piece of, another one; its loss is of both."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from cloudrun.recipe.train_config import TrainConfig


@dataclass(frozen=True, slots=True)
class Mix:
    """The same for a whole batch. `share` is how much of an image stays; a box (left, top, right, bottom) of the
    other one takes the rest's place, or without a box the other shines through everywhere."""

    share: float
    box: tuple[int, int, int, int] | None = None

    def images(self, images_BCHW: Tensor) -> Tensor:
        """The other image is the one as far from the batch's end as this from its start."""
        others = images_BCHW.flip(0)
        if self.box is None:
            return images_BCHW * self.share + others * (1 - self.share)
        left, top, right, bottom = self.box
        mixed = images_BCHW.clone()
        mixed[..., top:bottom, left:right] = others[..., top:bottom, left:right]
        return mixed

    def losses(self, own: Tensor, others: Tensor) -> Tensor:
        """Of losses by the images' own labels and by those of their others."""
        return own * self.share + others * (1 - self.share)


def draw_mix(config: TrainConfig, *, size: int) -> Mix | None:
    """For images of `size` px, from torch's global CPU generator, which is a function of the step.

    None where the config mixes nothing. With both on, each step is one or the other. Source: Zhang et al. 2018,
    arXiv:1710.09412; Yun et al. 2019, arXiv:1905.04899: shares from a Beta distribution, a box anywhere, cut off at
    the border.
    """
    alphas = [(name, alpha) for name, alpha in (("mixup", config.mixup), ("cutmix", config.cutmix)) if alpha]
    if not alphas:
        return None
    dice = random.Random(int(torch.randint(2**62, ()).item()))
    name, alpha = dice.choice(alphas)
    share = dice.betavariate(alpha, alpha)
    return Mix(share) if name == "mixup" else _box(dice, share, size)


def _box(dice: random.Random, share: float, size: int) -> Mix:
    half = size * (1 - share) ** 0.5 / 2
    x, y = dice.uniform(0, size), dice.uniform(0, size)
    left, top = (max(0, round(middle - half)) for middle in (x, y))
    right, bottom = (min(size, round(middle + half)) for middle in (x, y))
    return Mix(1 - (right - left) * (bottom - top) / size**2, (left, top, right, bottom))
