"""Test a range of learning rates: the rate rises with each step, until the model diverges."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression

import torch

from cloudrun.imagedata.dataset import Reading
from cloudrun.recipe.train_config import TrainConfig
from trainer.data.loader import Batch, mix
from trainer.errors import TrainerError
from trainer.model.optim import set_lr
from trainer.session.build import build_setup
from trainer.session.setup import TrainingSetup
from trainer.session.step import train_step

LOWEST_LR, HIGHEST_LR = 1e-6, 1.0
_SMOOTHING = 0.9
# A loss of so many times the lowest one has diverged.
_DIVERGED = 2.0
_STEADY_STEPS = 10
_FEWEST_STEPS = 5


@dataclass(frozen=True, slots=True)
class LrRange:
    """Result of a learning rate range test.

    `steepest`: where the loss falls fastest; `diverges`: where it has risen to twice its lowest, None if it never did;
    `curve`: rate and smoothed loss of each step.
    """

    steepest: float
    diverges: float | None
    curve: list[tuple[float, float]]


def lr_range(
    config: TrainConfig, *, data: Path, labels: Path | Reading | None = None, steps: int, say: Callable[[str], None]
) -> LrRange:
    """Train for up to `steps` steps, from LOWEST_LR to HIGHEST_LR by a constant factor; nothing is written.

    Source: Smith 2017, arXiv:1506.01186, section 3.3, with a rate that rises by factors.
    """
    setup = build_setup(config, data, labels=labels)
    for line in setup.describe():
        say(line)
    try:
        result = judge(list(_losses(setup, steps=steps, say=say)))
    finally:
        setup.stop_loading()
        setup.close()
    say(f"the loss falls fastest at {result.steepest:.1e}; " + (
        f"it diverges at {result.diverges:.1e}" if result.diverges else f"it does not diverge up to {HIGHEST_LR:g}"
    ))  # fmt: skip
    say(f"`lr` is {config.lr:g}; a rate from {result.steepest / 3:.1e} to {result.steepest:.1e} is a start")
    return result


def rate_at(step: int, *, steps: int) -> float:
    """Return the rate of `step`: LOWEST_LR at step 0, HIGHEST_LR at the last one."""
    return LOWEST_LR * math.pow(HIGHEST_LR / LOWEST_LR, step / (steps - 1))


def judge(losses: list[tuple[float, float]]) -> LrRange:
    """Find where the loss falls fastest and where it diverges; a loss that is not finite has diverged."""
    curve: list[tuple[float, float]] = []
    smooth, lowest, diverges = 0.0, math.inf, None
    for place, (rate, loss) in enumerate(losses):
        smooth = _SMOOTHING * smooth + (1 - _SMOOTHING) * loss
        level = smooth / (1 - _SMOOTHING ** (place + 1))  # without it, the smoothed loss would rise from 0
        if not math.isfinite(level) or (place > _STEADY_STEPS and level > _DIVERGED * lowest):
            diverges = rate
            break
        lowest = min(lowest, level)
        curve.append((rate, level))
    if len(curve) < _FEWEST_STEPS:
        raise TrainerError(
            f"the loss was not finite, or rose, from step {len(curve) + 1} on",
            hint="look at the data with `overfit` first",
        )
    return LrRange(_steepest(losses[: len(curve)], width=max(_FEWEST_STEPS, len(losses) // 4)), diverges, curve)


def _steepest(losses: list[tuple[float, float]], *, width: int) -> float:
    """Return the middle rate of those `width` steps through which a line falls fastest; single batches are noise."""
    slopes = []
    for start in range(max(1, len(losses) - width + 1)):
        part = losses[start : start + width]
        line = linear_regression([math.log(rate) for rate, _ in part], [loss for _, loss in part])
        slopes.append((line.slope, part[len(part) // 2][0]))
    return min(slopes)[1]


def _losses(setup: TrainingSetup, *, steps: int, say: Callable[[str], None]) -> Iterator[tuple[float, float]]:
    """Yield rate and loss until the loss has surely diverged; a single bad batch is not enough to stop."""
    batches, first = _endless(setup), math.inf
    setup.model.train()
    for step in range(steps):
        rate = rate_at(step, steps=steps)
        set_lr(setup.optimizer, rate)
        torch.manual_seed(mix(setup.config.seed, step))
        batch = next(batches)
        loss = float(train_step(setup, batch, say=say).loss_sum.item()) / len(batch.labels)
        first = min(first, loss)
        yield rate, loss
        if not loss < 10 * max(first, 1.0):
            return


def _endless(setup: TrainingSetup) -> Iterator[Batch]:
    epoch = 0
    while True:
        epoch += 1
        yield from setup.train_loader.epoch(epoch)
