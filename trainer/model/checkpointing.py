"""Recompute activations in the backward pass instead of keeping them: more images at once, for a third more time."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.errors import TrainerError


def recompute_activations(backbone: nn.Module, *, name: str, image_size: int) -> None:
    """Turn on timm's gradient checkpointing of a model. Raises TrainerError where the model has none.

    Source: Chen et al. 2016, arXiv:1604.06174.
    """
    try:
        backbone.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AssertionError, AttributeError, TypeError) as err:
        raise TrainerError(
            f"timm cannot recompute the activations of `{name}`",
            hint="set `grad_checkpointing: false`, or choose another backbone",
        ) from err
    _keep_pace_of_statistics(backbone, image_size=image_size)


def _keep_pace_of_statistics(backbone: nn.Module, *, image_size: int) -> None:
    """Halve the pace of the batch norms that see each batch twice, so that both passes together count as one.

    (1 - m') ** 2 = 1 - m. Which norms are computed twice is tried: the stem and the last layers of some models are not.
    """
    norms = [one for one in backbone.modules() if isinstance(one, _BatchNorm) and one.momentum]
    if not norms:
        return
    before = [buffer.clone() for buffer in backbone.buffers()]
    seen_before = [_seen(one) for one in norms]
    was_training = backbone.training
    with torch.random.fork_rng(devices=[]):
        pooled = backbone.train()(torch.randn(2, 3, image_size, image_size))
        torch.autograd.backward(pooled.sum())
    for norm, seen in zip(norms, seen_before, strict=True):
        times = _seen(norm) - seen
        assert norm.momentum is not None
        norm.momentum = 1 - (1 - norm.momentum) ** (1 / max(1, times))
    with torch.no_grad():
        for buffer, value in zip(backbone.buffers(), before, strict=True):
            buffer.copy_(value)
    backbone.zero_grad(set_to_none=True)
    backbone.train(was_training)


def _seen(norm: _BatchNorm) -> int:
    return 0 if norm.num_batches_tracked is None else int(norm.num_batches_tracked.item())
