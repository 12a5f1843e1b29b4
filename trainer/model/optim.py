"""Make the optimizer and its schedule: the learning rate of each step, and which parameters decay."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from timm.models import group_parameters
from torch import nn

from cloudrun.recipe.train_config import TrainConfig
from trainer.errors import TrainerError
from trainer.model.ensemble import Ensemble


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning rates, and lengths in optimizer steps."""

    peak_lr: float
    warmup_steps: int
    steps: int
    final_lr: float = 0.0


def schedule_of(config: TrainConfig, *, steps_per_epoch: int) -> Schedule:
    """Return the schedule of a run. Warm-up is at most half of it.

    With `swa_lr` the rate falls to that share of `lr` before the epochs that are averaged, and stays there.
    """
    steps = config.epochs * steps_per_epoch
    warmup_steps = min(round(config.warmup_epochs * steps_per_epoch), steps // 2)
    if not config.swa_epochs or config.swa_lr is None:
        return Schedule(config.lr, warmup_steps, steps)
    falling = max(warmup_steps, steps - config.swa_epochs * steps_per_epoch)
    return Schedule(config.lr, warmup_steps, falling, final_lr=config.swa_lr * config.lr)


def lr_at(step: int, schedule: Schedule) -> float:
    """Return the learning rate of `step`: linear warm-up, then cosine to `schedule.final_lr`.

    Steps count from 0 and stay at `final_lr` after `schedule.steps`. Never 0 at step 0, or the first batch would teach
    nothing. Source: Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5.
    """
    if step < schedule.warmup_steps:
        return schedule.peak_lr * (step + 1) / schedule.warmup_steps
    done = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    height = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return schedule.final_lr + (schedule.peak_lr - schedule.final_lr) * height


def make_optimizer(model: Ensemble, config: TrainConfig) -> torch.optim.AdamW:
    """Return an AdamW that decays matrices and filters, but not scales of norms and biases, which are vectors.

    Each group has an `lr_factor`: its share of the learning rate.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for factor, parameter in _with_factors(model, config):
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": config.lr * factor, "lr_factor": factor, "weight_decay": decay}
            for (factor, decay), parameters in groups.items()
        ],
        lr=config.lr,
        fused=True,
    )


def align_moments(optimizer: torch.optim.Optimizer) -> None:
    """Store each moment in the memory format of its weights.

    Call after a change of formats and after a checkpoint was loaded. The fused AdamW walks over both side by side. With
    another format it would silently use the moment of another weight.
    """
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                state[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give each group its share of `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]


def _with_factors(model: Ensemble, config: TrainConfig) -> Iterator[tuple[float, nn.Parameter]]:
    """Yield parameters with their share of the rate: 1 for the head, `backbone_lr` for the last stage of a backbone.

    Each earlier stage has `layer_decay` times the rate of the stage after it.
    """
    for backbone in model.backbones.values():
        stages = _stages(backbone) if config.layer_decay < 1 else {}
        last = max(stages.values(), default=0)
        for name, parameter in backbone.named_parameters():
            yield config.backbone_lr * config.layer_decay ** (last - stages.get(name, last)), parameter
    for parameter in model.head.parameters():
        yield 1.0, parameter


def _stages(backbone: nn.Module) -> dict[str, int]:
    """Return the stage of each parameter, from 0 (the stem), as timm groups them."""
    matcher = getattr(backbone, "group_matcher", None)
    if matcher is None:
        raise TrainerError(f"timm does not know the stages of a {type(backbone).__name__}", hint="set `layer_decay: 1`")
    stages: dict[str, int] = group_parameters(backbone, matcher(coarse=True), reverse=True)
    return stages
