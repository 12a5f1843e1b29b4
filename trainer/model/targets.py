"""Define what a model is taught: one class an image, or any number of classes.

With one class an image: softmax and cross entropy. With several: a sigmoid for each class, binary cross entropy, and
for each class a threshold above which it is predicted, tuned for F1 on val.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cloudrun.imagedata.folders import Dataset

_MIDDLE = 0.5  # threshold of a class without images in val


@dataclass(frozen=True)
class Targets:
    """How labels become targets, losses and probabilities.

    `of_sets`: float32 (label sets, classes) of 0 and 1, a row for each value of a label; None: a label is a class.
    """

    of_sets: Tensor | None = None

    @property
    def has_several(self) -> bool:
        """Whether an image may have several classes, or none."""
        return self.of_sets is not None

    @property
    def allows_none(self) -> bool:
        """Whether an image may have no class."""
        return self.of_sets is not None and not bool(self.of_sets.any(1).all().item())

    def on_cpu(self) -> Targets:
        """Return the same with its tensor on the CPU."""
        return self if self.of_sets is None else Targets(self.of_sets.cpu())

    def wanted(self, labels: Tensor) -> Tensor:
        """Return float32 (B, classes) of 0 and 1 for `labels` (B,), where an image may have several classes."""
        assert self.of_sets is not None
        return self.of_sets.to(labels.device)[labels]

    def losses(self, logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Return (B,) losses of float32 `logits` (B, classes); `smoothing` moves the targets to the middle.

        With several classes an image, the mean over the classes of binary cross entropy.
        """
        if self.of_sets is None:
            return functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        wanted = self.wanted(labels) * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(1)

    def correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the number of images with all their classes right, and no other, as a tensor ().

        With several classes an image, at a threshold of 0.5.
        """
        if self.of_sets is None:
            return (logits.argmax(1) == labels).sum()
        return ((logits > 0) == self.wanted(labels).bool()).all(1).sum()

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(1) if self.of_sets is None else logits.sigmoid()


ONE_CLASS = Targets()


def targets_of(dataset: Dataset, device: torch.device | None = None) -> Targets:
    """Return the targets of a data set, on `device`, where the labels of the batches are."""
    if dataset.label_sets is None:
        return ONE_CLASS
    matrix = torch.zeros(len(dataset.label_sets), len(dataset.classes))
    for row, indices in enumerate(dataset.label_sets):
        matrix[row, list(indices)] = 1.0
    return Targets(matrix.to(device))


@dataclass(frozen=True)
class DecisionRule:
    """Turn probabilities into classes.

    Those above `thresholds` (a value a class), or without thresholds the most probable class. Where no class is above
    its threshold, the most probable class is predicted, unless `allows_none`.
    """

    thresholds: tuple[float, ...] | None = None
    allows_none: bool = False

    def predicted(self, probabilities: Tensor) -> Tensor:
        """Return the classes of each image, bool (N, classes), from `probabilities` (N, classes)."""
        best = functional.one_hot(probabilities.argmax(1), probabilities.shape[1]).bool()
        if self.thresholds is None:
            return best
        predicted = probabilities > torch.tensor(self.thresholds, dtype=probabilities.dtype)
        return predicted if self.allows_none else predicted | (best & ~predicted.any(1, keepdim=True))

    def as_plain(self) -> dict[str, object]:
        return {"thresholds": list(self.thresholds) if self.thresholds else None, "allows_none": self.allows_none}


def decision_rule(targets: Targets, thresholds: Sequence[float] | None) -> DecisionRule:
    """Return the rule of `targets`. `thresholds`: as tuned; None before any validation."""
    if targets.of_sets is None:
        return DecisionRule()
    limits = [_MIDDLE] * targets.of_sets.shape[1] if thresholds is None else thresholds
    return DecisionRule(tuple(limits), allows_none=targets.allows_none)


def decision_rule_from(saved: dict[str, Any] | None) -> DecisionRule:
    """Return the rule that `as_plain` wrote; None (older checkpoints): one class an image."""
    if not saved or saved["thresholds"] is None:
        return DecisionRule()
    return DecisionRule(tuple(saved["thresholds"]), saved["allows_none"])


def targets_for(rule: DecisionRule, *, classes: int) -> Targets:
    """Return targets for prediction, from the rule of a trained model: the data have no labels."""
    return ONE_CLASS if rule.thresholds is None else Targets(torch.zeros(0, classes))


def f_scores(predicted: Tensor, wanted: Tensor, *, beta: float = 1.0) -> list[float | None]:
    """Return F-beta of each class; None where neither an image nor a prediction has it. Both are bool (N, classes).

    Recall counts `beta` times as much as precision.
    """
    square = beta**2
    both, either = (predicted & wanted).sum(0), predicted.sum(0) + square * wanted.sum(0)
    counts = zip(both.tolist(), either.tolist(), strict=True)
    return [(1 + square) * hits / total if total else None for hits, total in counts]


def tune_thresholds(probabilities: Tensor, wanted: Tensor, *, beta: float = 1.0) -> list[float]:
    """Return for each class the threshold with the highest F-beta on these images, half-way to the next probability.

    Of equally good thresholds, the nearest to 0.5, so that few images do not move it to an extreme.
    """
    thresholds = []
    for column in range(wanted.shape[1]):
        order = probabilities[:, column].double().argsort(descending=True)
        ranked, true = probabilities[order, column].double(), wanted[order, column].double()
        if not true.sum():
            thresholds.append(_MIDDLE)
            continue
        hits = true.cumsum(0)
        named = torch.arange(1, len(true) + 1)
        f1 = (1 + beta**2) * hits / (named + beta**2 * true.sum())  # if the first k are named
        following = torch.cat([ranked[1:], torch.zeros(1, dtype=torch.float64)])
        f1[ranked == following] = -1.0  # a threshold cannot separate equal probabilities
        between = (ranked + following) / 2
        best = f1 >= f1.max() - 1e-9
        nearest = (between - _MIDDLE).abs().masked_fill(~best, 2.0).argmin()
        exact, above, below = (float(values[nearest].item()) for values in (between, ranked, following))
        short = float(f"{exact:.6g}")
        thresholds.append(short if below < short < above else exact)
    return thresholds
