"""Compute logits from pooled features, and what training adds to them: a margin, or several draws of dropout."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from cloudrun.recipe.train_config import TrainConfig

_SMALLEST_SINE = 1e-6  # its slope is infinite at 0


class CosineHead(nn.Module):
    """Scaled cosines between features and a vector for each class: the logits of ArcFace without its margin.

    They have no labels in them, so that predictions, calibration and stacking take them as any logits.
    """

    def __init__(self, in_features: int, classes: int, *, scale: float) -> None:
        super().__init__()
        self.in_features, self.scale = in_features, scale
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(classes, in_features)))

    def forward(self, features: Tensor) -> Tensor:
        """Return (..., classes) from float32 features (..., in_features)."""
        cosines = functional.linear(functional.normalize(features, dim=-1), functional.normalize(self.weight, dim=-1))
        return self.scale * cosines


def make_head(config: TrainConfig, *, in_features: int, classes: int) -> nn.Linear | CosineHead:
    """Return the head that `config` describes; its weights are drawn from torch's global RNG."""
    if config.head == "arcface":
        return CosineHead(in_features, classes, scale=config.arcface_scale)
    return nn.Linear(in_features, classes)


def with_margin(logits: Tensor, labels: Tensor, config: TrainConfig) -> Tensor:
    """Return the logits of a CosineHead (B, classes) with the margin added to the angle of each image's own class.

    Beyond an angle of pi - margin, where the cosine would rise again, it is the tangent's line instead, as the authors'
    code has it. Source: Deng et al. 2018, arXiv:1801.07698, eq. 3.
    """
    margin, scale = config.arcface_margin, config.arcface_scale
    place = labels.unsqueeze(1)
    cosine = (logits.gather(1, place) / scale).clamp(-1, 1)
    sine = (1 - cosine.square()).clamp(min=_SMALLEST_SINE**2).sqrt()
    turned = cosine * math.cos(margin) - sine * math.sin(margin)
    beyond = cosine - margin * math.sin(margin)
    own = torch.where(cosine > -math.cos(margin), turned, beyond)
    return logits.scatter(1, place, scale * own)


def of_samples(head: nn.Module, dropout: nn.Module, features: Tensor, *, samples: int) -> Tensor:
    """Return logits (B, samples, classes): the same head on features with dropout drawn `samples` times.

    The loss of an image is the mean of those of its samples. Source: Inoue 2019, arXiv:1905.09788.
    """
    drawn = dropout(features.unsqueeze(1).expand(-1, samples, -1))
    logits: Tensor = head(drawn)
    return logits
