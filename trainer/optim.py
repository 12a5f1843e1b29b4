"""The learning rate of each step, and which parameters decay."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from trainer.config import TrainConfig


@dataclass(frozen=True, slots=True)
class Schedule:
    """Lengths in optimizer steps."""

    peak_lr: float
    warmup_steps: int
    steps: int
    final_lr: float = 0.0


def schedule_of(config: TrainConfig, *, steps_per_epoch: int) -> Schedule:
    """At most half of the run is warm-up."""
    steps = config.epochs * steps_per_epoch
    return Schedule(config.lr, min(round(config.warmup_epochs * steps_per_epoch), steps // 2), steps)


def lr_at(step: int, schedule: Schedule) -> float:
    """Learning rate for `step`: linear warm-up, then cosine to `schedule.final_lr`.

    Steps count from 0 and stay at `final_lr` after `schedule.steps`. Never 0 at step 0, or the
    first batch would teach nothing. Source: Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5.
    """
    if step < schedule.warmup_steps:
        return schedule.peak_lr * (step + 1) / schedule.warmup_steps
    done = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    height = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return schedule.final_lr + (schedule.peak_lr - schedule.final_lr) * height


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices and filters; norms' scales and biases are vectors, and do not decay."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    kept = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr, fused=True)
