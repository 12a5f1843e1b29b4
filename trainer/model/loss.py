"""Compute the loss of each image: cross entropy, with optional weights for classes and for hard images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from cloudrun.imagedata.folders import LabelledFile
from cloudrun.recipe.train_config import TrainConfig
from trainer.errors import ConfigError
from trainer.model.robust_loss import binary_ce, generalized_ce, symmetric_ce
from trainer.model.targets import ONE_CLASS, Targets


def image_losses(  # noqa: PLR0913 - all that weighs an image
    logits: Tensor,
    labels: Tensor,
    config: TrainConfig,
    *,
    targets: Targets = ONE_CLASS,
    class_weights: Tensor | None = None,
    offsets: Tensor | None = None,
) -> Tensor:
    """Return (B,) losses of float32 logits (B, classes), to which `offsets` (classes,) are added.

    Smoothed cross entropy * (1 - p) ** focal_gamma * class weight, with p the probability given to the label. Source:
    Lin et al. 2017, arXiv:1708.02002. Where an image may have several classes: the mean over the classes of the same of
    binary cross entropy, with p given to the presence or absence of the class.
    """
    if targets.has_several:
        return _mean_of_classes(logits, targets.wanted(labels), config, class_weights)
    if offsets is not None:
        logits = logits + offsets
    losses = _plain(logits, labels, config)
    if config.focal_gamma:
        probabilities = logits.softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
        losses = losses * _focus(probabilities, config)
    return losses if class_weights is None else losses * class_weights[labels]


def _plain(logits: Tensor, labels: Tensor, config: TrainConfig) -> Tensor:
    match config.loss:
        case "generalized_ce":
            return generalized_ce(logits, labels, q=config.generalized_ce_q)
        case "symmetric_ce":
            return symmetric_ce(logits, labels, smoothing=config.label_smoothing)
        case "bce":
            return binary_ce(logits, labels, smoothing=config.label_smoothing)
        case _:
            return functional.cross_entropy(logits, labels, label_smoothing=config.label_smoothing, reduction="none")


def check_loss(config: TrainConfig, *, has_several: bool) -> None:
    """Raise ConfigError where the loss of `config` is not defined: an image may have several classes."""
    if has_several and config.loss not in ("cross_entropy", "bce"):
        raise ConfigError(
            f"`loss: {config.loss}` needs one class an image, and here an image may have several",
            hint="leave `loss` out: binary cross entropy",
        )
    if has_several and config.head == "arcface":
        raise ConfigError(
            "`head: arcface` needs one class an image, and here an image may have several",
            hint="set `head: linear`",
        )
    if has_several and config.logit_adjustment:
        raise ConfigError(
            "`logit_adjustment` needs one class an image, and here an image may have several",
            hint="set `logit_adjustment: 0`; `class_weights: balanced` weighs rare classes",
        )


def weights_of_classes(
    files: Sequence[LabelledFile],
    config: TrainConfig,
    *,
    classes: int,
    sets: Sequence[Sequence[int]] | None = None,
) -> Tensor | None:
    """Return the weight of each label: balanced: every class has the same total weight, and labels weigh 1 on average.

    None where all images weigh the same. `sets`: the classes that each label stands for, where an image may have
    several.
    """
    if config.class_weights == "none":
        return None
    counts = Counter(
        class_index for _, label in files for class_index in (sets[label] if sets is not None else (label,))
    )
    total = counts.total()
    return torch.tensor([total / (classes * max(1, counts[label])) for label in range(classes)])


def _mean_of_classes(logits: Tensor, wanted: Tensor, config: TrainConfig, class_weights: Tensor | None) -> Tensor:
    smoothed = wanted * (1 - config.label_smoothing) + config.label_smoothing / 2
    losses = functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
    if config.focal_gamma:
        present = logits.sigmoid()
        losses = losses * _focus(present * wanted + (1 - present) * (1 - wanted), config)
    return (losses if class_weights is None else losses * class_weights).mean(1)


def _focus(probabilities: Tensor, config: TrainConfig) -> Tensor:
    # The slope of the power is infinite at 0 for a gamma below 1: an image with p = 1 would give nan.
    return (1 - probabilities).clamp(min=1e-6) ** config.focal_gamma
