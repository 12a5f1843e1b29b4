"""Find the largest micro-batch that fits into memory, by trying."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from trainer.data.augment import ranges_of, square_side
from trainer.data.augment_params import AugmentParams, Ranges
from trainer.data.loader import Batch, even_sizes
from trainer.data.strong_params import draw
from trainer.session.probe import is_out_of_memory, release, restored_after
from trainer.session.step import prepare

if TYPE_CHECKING:
    from trainer.session.setup import TrainingSetup

# Share of the usable memory that stays free: for fragments, cuDNN's workspaces, mixed images, small tensors.
HEADROOM = 0.1
# Moments of each weight that AdamW keeps from its first step on.
_MOMENTS = 2


def largest_that_fits(most: int, fits: Callable[[int], bool]) -> int | None:
    """Return the images of a part, for `most` images in as few even parts as fit.

    None: not even the smallest part fits. The size is halved until it fits, then searched by bisection. Sizes below one
    that fits, fit, too.
    """
    sizes = part_sizes(most)
    failing, fitting = -1, 0
    while not fits(sizes[fitting]):
        smaller = [place for place in range(fitting + 1, len(sizes)) if sizes[place] <= sizes[fitting] / 2]
        if fitting == len(sizes) - 1:
            return None
        failing, fitting = fitting, smaller[0] if smaller else len(sizes) - 1
    while fitting - failing > 1:
        middle = (failing + fitting) // 2
        if fits(sizes[middle]):
            fitting = middle
        else:
            failing = middle
    return sizes[fitting]


def part_sizes(most: int) -> list[int]:
    """Return the largest part in 1, 2, 3, ... parts: sizes between these would not need fewer parts."""
    return sorted({max(even_sizes(most, count)) for count in range(2, most)} | {most}, reverse=True)


@dataclass
class MemoryProbe:
    """Test whether a real pass of so many images, with their augmentation, fits into memory with room left.

    `peaks`: bytes, by images. On a CPU it fits if it does not fail, since the usable memory is not known beforehand.
    """

    setup: TrainingSetup
    peaks: dict[int, int]
    usable: int = 0

    def fits(self, count: int) -> bool:
        setup = self.setup
        try:
            with restored_after(setup.model):
                self._try(count)
        except RuntimeError as err:
            if not is_out_of_memory(err):
                raise
            is_within = False
        else:
            is_within = self.peaks[count] <= (1 - HEADROOM) * self.usable
        # Outside the handler: the exception would keep the failed pass's tensors alive.
        release(setup.model)
        return is_within

    def _try(self, count: int) -> None:
        setup, place = self.setup, self.setup.device.torch_device
        batch = _batch_of(count, side=square_side(setup.config), ranges=ranges_of(setup.config))
        labels = batch.labels.to(place)
        if setup.device.is_cuda:
            self.usable = torch.cuda.mem_get_info(place)[0] + torch.cuda.memory_reserved(place)
        for _ in range(2):  # the first pass includes cuDNN's search, whose workspaces no later step needs
            if setup.device.is_cuda:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(place)
            images = prepare(batch, place, size=setup.config.image_size)
            with setup.device.autocast():
                logits = setup.model(images)
            torch.autograd.backward(setup.image_losses(logits.float(), labels).sum() / count)
        self.peaks[count] = 0
        if setup.device.is_cuda:
            self.peaks[count] = torch.cuda.max_memory_reserved(place) + self._moments_to_come()

    def _moments_to_come(self) -> int:
        """Return bytes; 0 once the optimizer has made its first step, or was restored."""
        if self.setup.optimizer.state:
            return 0
        return _MOMENTS * sum(weight.numel() * weight.element_size() for weight in self.setup.model.parameters())


def _batch_of(count: int, *, side: int, ranges: Ranges) -> Batch:
    """Return random squares as the loader gives them, to be augmented."""
    squares = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    whole = AugmentParams(0.0, 0.0, 1.0, 1.0, flip=1.0, degrees=30.0, brightness=1.0, contrast=1.0, saturation=1.0)
    strong = [draw(ranges, seed, width=side, height=side)[len(whole) :] for seed in range(count)]
    return Batch(squares, torch.zeros(count, dtype=torch.int64), torch.tensor([(*whole, *more) for more in strong]))
