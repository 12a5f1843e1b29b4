"""How wrong a batch is: cross entropy, by default; classes may weigh more, and hard images too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from trainer.config import TrainConfig
from trainer.folders import LabelledFile


def image_losses(logits: Tensor, labels: Tensor, config: TrainConfig, *, class_weights: Tensor | None) -> Tensor:
    """(B,) from float32 logits (B, classes): smoothed cross entropy * (1 - p) ** focal_gamma * the class's weight.

    p: the probability given to the image's label. Source: Lin et al. 2017, arXiv:1708.02002.
    """
    losses = functional.cross_entropy(logits, labels, label_smoothing=config.label_smoothing, reduction="none")
    if config.focal_gamma:
        given = logits.softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
        # The power's slope is infinite at 0 for a gamma under 1: a perfect image would give nan.
        losses = losses * (1 - given).clamp(min=1e-6) ** config.focal_gamma
    return losses if class_weights is None else losses * class_weights[labels]


def weights_of_classes(files: Sequence[LabelledFile], config: TrainConfig, *, classes: int) -> Tensor | None:
    """balanced: each class weighs the same in all, and an image 1 on average. None where images weigh alike."""
    if config.class_weights == "none":
        return None
    counts = Counter(label for _, label in files)
    return torch.tensor([len(files) / (classes * max(1, counts[label])) for label in range(classes)])
