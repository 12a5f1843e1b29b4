"""Compute the loss of images whose target is, in part, the probabilities of a teacher."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from cloudrun.recipe.train_config import TrainConfig
from trainer.model.targets import Targets


def blended_losses(  # noqa: PLR0913 - a loss, and what it is made from
    hard: Tensor,
    logits: Tensor,
    soft: Tensor,
    config: TrainConfig,
    *,
    targets: Targets,
    class_weights: Tensor | None,
) -> Tensor:
    """Return (B,): `hard` (B,), the losses by label, mixed with cross entropy against the probabilities of `soft`.

    `soft` (B, 1 + classes): the share of the probabilities, then these; `logits` float32 (B, classes). The
    probabilities are smoothed as labels are, and weigh as the classes that they name; `focal_gamma` is for labels
    alone. Where an image may have several classes: the mean over the classes of binary cross entropy.
    """
    share, wanted, smoothing = soft[:, 0], soft[:, 1:], config.label_smoothing
    if targets.has_several:
        smoothed = wanted * (1 - smoothing) + smoothing / 2
        each = functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
        losses = (each if class_weights is None else each * class_weights).mean(1)
    else:
        smoothed = wanted * (1 - smoothing) + smoothing / wanted.shape[1]
        losses = -(smoothed * functional.log_softmax(logits, 1)).sum(1)
        if class_weights is not None:
            losses = losses * (wanted * class_weights).sum(1)
    # lerp would be nan where one of both is infinite and has no share.
    return torch.where(share < 1, hard * (1 - share), 0) + torch.where(share > 0, losses * share, 0)
