"""Compute losses that a wrong label costs less than cross entropy, and binary cross entropy of a single label.

Each takes float32 logits (B, classes) and labels (B,), and returns (B,).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from cloudrun.imagedata.folders import LabelledFile
from cloudrun.recipe.train_config import TrainConfig

# Symmetric cross entropy: the logarithm of a probability of 0, and the weights of both halves, by Wang et al. for
# CIFAR-10.
_LOG_OF_ZERO = -4.0
_FORWARD, _REVERSE = 0.1, 1.0


def generalized_ce(logits: Tensor, labels: Tensor, *, q: float) -> Tensor:
    """Return (1 - p ** q) / q, with p the probability of the label: cross entropy for q near 0, 1 - p for q = 1.

    Source: Zhang & Sabuncu 2018, arXiv:1805.07836, eq. 6.
    """
    log_p = functional.log_softmax(logits, dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
    return -torch.expm1(q * log_p) / q  # the slope of p ** q would be infinite at p = 0


def symmetric_ce(logits: Tensor, labels: Tensor, *, smoothing: float) -> Tensor:
    """Return 0.1 * cross entropy + reverse cross entropy, in which the label is the prediction and log 0 is -4.

    The reverse half is 4 * (1 - p), with p the probability of the label; `smoothing` is of the first half alone.
    Source: Wang et al. 2019, arXiv:1908.06112, eq. 7 and section 3.3.
    """
    forward = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    p = logits.softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
    return _FORWARD * forward + _REVERSE * -_LOG_OF_ZERO * (1 - p)


def binary_ce(logits: Tensor, labels: Tensor, *, smoothing: float) -> Tensor:
    """Return the sum over the classes of binary cross entropy, as if an image could have any number of them.

    `smoothing` is spread over all classes. The sum, and not the mean, so that `lr` means the same as with cross
    entropy. Source: Wightman et al. 2021, arXiv:2110.00476, section 2.
    """
    classes = logits.shape[1]
    wanted = functional.one_hot(labels, classes).to(logits.dtype) * (1 - smoothing) + smoothing / classes
    return functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1)


def logit_offsets(files: Sequence[LabelledFile], config: TrainConfig, *, classes: int) -> Tensor | None:
    """Return float32 (classes,), which training adds to the logits: `logit_adjustment` * log of each class's share.

    None where the config asks for none. A class without training images counts as one image. Source: Menon et al.
    2020, arXiv:2007.07314, eq. 10.
    """
    if not config.logit_adjustment:
        return None
    counts = torch.bincount(torch.tensor([label for _, label in files]), minlength=classes).clamp(min=1).float()
    return config.logit_adjustment * (counts / counts.sum()).log()
