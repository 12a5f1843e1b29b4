"""Apply mixup and cutmix: each image of a batch is mixed with another one, and its loss is that of both labels."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from cloudrun.recipe.train_config import TrainConfig


@dataclass(frozen=True, slots=True)
class Mix:
    """The same mix for a whole batch.

    `share` of an image stays. With a box (left, top, right, bottom), the other image fills the box; without, the other
    image is blended in everywhere.
    """

    share: float
    box: tuple[int, int, int, int] | None = None

    def images(self, images_BCHW: Tensor) -> Tensor:
        """Return mixed images.

        The partner of an image is as far from the end of the batch as the image is from its start.
        """
        others = images_BCHW.flip(0)
        if self.box is None:
            return images_BCHW * self.share + others * (1 - self.share)
        left, top, right, bottom = self.box
        mixed = images_BCHW.clone()
        mixed[..., top:bottom, left:right] = others[..., top:bottom, left:right]
        return mixed

    def losses(self, own: Tensor, others: Tensor) -> Tensor:
        """Mix the losses by the images' own labels with those by their partners' labels."""
        return own * self.share + others * (1 - self.share)


def draw_mix(config: TrainConfig, *, size: int) -> Mix | None:
    """Draw a mix for images of `size` px from torch's global CPU generator, whose seed is a function of the step.

    None where the config mixes nothing. With mixup and cutmix on, each step has one of them. Source: Zhang et al. 2018,
    arXiv:1710.09412; Yun et al. 2019, arXiv:1905.04899: shares from a Beta distribution, a box anywhere, clipped at the
    border.
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
