"""Sum the results of steps without waiting for the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.errors import TrainerError

# It begins at 65,536 and is halved at each infinite gradient: healthy runs stay above 1.
_LOWEST_SCALE = 1e-3


class StepResult(NamedTuple):
    """Results that are still on the device: to read them waits for the GPU."""

    loss_sum: Tensor  # over the batch's images
    correct: Tensor
    gradient_norm: Tensor


class LossNotFinite(TrainerError):
    """A step whose loss or gradient is infinite or not a number; its gradient was not applied."""

    def __init__(self, step: int, message: str | None = None) -> None:
        super().__init__(
            message or f"the loss is not finite at step {step}; the last checkpoint is from before it",
            hint="lower `lr`, lengthen `warmup_epochs`, or set `precision: fp32`",
        )


class ScaleLost(LossNotFinite):
    """The gradient was infinite in so many steps on end that loss scaling has nothing left to lower."""

    def __init__(self, step: int, scale: float) -> None:
        super().__init__(
            step, f"no step is taken: at step {step} the gradient is infinite even with the loss scaled by {scale:g}"
        )


def raise_if_scale_is_lost(scaler: torch.amp.GradScaler, step: int) -> None:
    """Raise ScaleLost where fp16's loss scaling skips every step, which would otherwise pass for training."""
    if scaler.is_enabled() and scaler.get_scale() < _LOWEST_SCALE:
        raise ScaleLost(step, scaler.get_scale())


class FirstBadStep:
    """The first step whose loss or gradient is not finite, recorded without waiting for the device."""

    def __init__(self, device: torch.device) -> None:
        self._step = torch.zeros((), dtype=torch.int64, device=device)

    def note(self, step: int, result: StepResult) -> None:
        """Record the result of `step`, which counts from 1."""
        is_bad = ~(torch.isfinite(result.loss_sum) & torch.isfinite(result.gradient_norm))
        self._step = torch.where((self._step == 0) & is_bad, step, self._step)

    def is_any(self) -> bool:
        return bool(self._step.item())

    def raise_if_any(self) -> None:
        """Raise LossNotFinite naming the step. Call before every save, so that checkpoints stay good."""
        step = int(self._step.item())
        if step:
            raise LossNotFinite(step)


@dataclass
class EpochStats:
    """Sums over an epoch's images so far; loss and count stay on the device until they are read."""

    loss_sum: Tensor
    correct: Tensor
    images: int = 0
    seconds: float = 0.0
    waited_s: float = 0.0  # the device had nothing to do for lack of images; not before the first batch of an epoch

    def add(self, result: StepResult, *, images: int) -> None:
        self.loss_sum += result.loss_sum
        self.correct += result.correct
        self.images += images

    def loss(self) -> float:
        return float(self.loss_sum.item()) / max(1, self.images)

    def accuracy(self) -> float:
        return float(self.correct.item()) / max(1, self.images)

    def images_per_s(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0

    def wait_share(self) -> float:
        return self.waited_s / self.seconds if self.seconds else 0.0

    def as_plain(self) -> dict[str, float]:
        return {
            "loss_sum": float(self.loss_sum.item()),
            "correct": int(self.correct.item()),
            "images": self.images,
            "seconds": self.seconds,
            "waited_s": self.waited_s,
        }
