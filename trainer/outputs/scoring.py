"""Compute the metric that a competition is judged by, from probabilities and true classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cloudrun.recipe.train_config import MetricName, TrainConfig
from trainer.errors import ConfigError
from trainer.model.targets import DecisionRule, f_scores
from trainer.outputs.predictions import Predictions, log_loss, roc_auc

_MOST_CLASSES = 200  # of a confusion matrix: it has the square of so many numbers
_ONE_CLASS_ALONE = ("quadratic_kappa", "top_k")


@dataclass(frozen=True, slots=True)
class Judged:
    """Images whose classes are known: `probabilities`, and bool `predicted` and `wanted`, each (N, classes)."""

    probabilities: Tensor
    predicted: Tensor
    wanted: Tensor

    def __getitem__(self, rows: Tensor) -> Judged:
        return Judged(self.probabilities[rows], self.predicted[rows], self.wanted[rows])


@dataclass(frozen=True, slots=True)
class Metric:
    """`beta` is of `f_beta`, `k` of `top_k`; `ranks`: the place of each class in its order, for `quadratic_kappa`."""

    name: MetricName = "accuracy"
    beta: float = 1.0
    k: int = 5
    ranks: tuple[int, ...] = ()
    has_several: bool = False

    @property
    def is_loss(self) -> bool:
        """Whether lower is better."""
        return self.name == "log_loss"

    @property
    def threshold_beta(self) -> float:
        """The weight of recall for which the thresholds of several classes an image are tuned."""
        return self.beta if self.name == "f_beta" else 1.0

    def gain(self, value: float | None) -> float:
        """Return a number that is higher where `value` is better; the lowest where it is undefined."""
        if value is None or math.isnan(value):
            return -math.inf
        return -value if self.is_loss else value

    def of(self, judged: Judged) -> float | None:
        """Return the value for `judged`; None where no class has what it needs.

        `auc` is the mean over the columns of the area under the ROC curve, of classes with images within and without.
        `f_beta` is the mean over the classes, as macro F1 is.
        """
        predicted, wanted = judged.predicted, judged.wanted
        match self.name:
            case "macro_f1":
                return _mean(f_scores(predicted, wanted))
            case "f_beta":
                return _mean(f_scores(predicted, wanted, beta=self.beta))
            case "balanced_accuracy":
                return _mean(recalls(predicted, wanted))
            case "auc":
                columns = zip(judged.probabilities.unbind(1), wanted.unbind(1), strict=True)
                return _mean([roc_auc(scores, is_true) for scores, is_true in columns])
            case "log_loss":
                return log_loss(judged.probabilities, wanted, several=self.has_several)
            case "quadratic_kappa":
                return quadratic_kappa(predicted.int().argmax(1), wanted.int().argmax(1), ranks=self.ranks)
            case "top_k":
                best = judged.probabilities.topk(min(self.k, wanted.shape[1]), dim=1).indices
                return float(wanted.gather(1, best).any(1).double().mean().item())
            case _:
                return float((predicted == wanted).all(1).double().mean().item())


ACCURACY = Metric()


def metric_of(config: TrainConfig, classes: Sequence[str], *, has_several: bool) -> Metric:
    """Return the metric of a run; `auto`: accuracy, or macro F1 where an image may have several classes.

    Raises ConfigError where the metric is not defined for several classes an image.
    """
    name = config.metric
    if name == "auto":
        name = "macro_f1" if has_several else "accuracy"
    if has_several and name in _ONE_CLASS_ALONE:
        raise ConfigError(
            f"`metric: {name}` needs one class an image, and here an image may have several",
            hint="set `metric: macro_f1`, f_beta, auc or log_loss",
        )
    return Metric(name, config.metric_beta, config.metric_k, ranks_of(classes), has_several)


def judged_of(predictions: Predictions, rule: DecisionRule) -> Judged:
    """Return the images of an oof.csv as `rule` judges them."""
    return Judged(predictions.probabilities, rule.predicted(predictions.probabilities), predictions.wanted)


def ranks_of(classes: Sequence[str]) -> tuple[int, ...]:
    """Return the place of each class in its order: by number where all names are numbers, else as they stand."""
    numbers = [_number(name) for name in classes]
    if any(number is None for number in numbers):
        return tuple(range(len(classes)))
    order = sorted(range(len(classes)), key=lambda at: numbers[at] or 0.0)
    return tuple(order.index(at) for at in range(len(classes)))


def recalls(predicted: Tensor, wanted: Tensor) -> list[float | None]:
    """Return the share of each class's images that are predicted to have it; None where it has no image."""
    return _shares((predicted & wanted).sum(0), wanted.sum(0))


def precisions(predicted: Tensor, wanted: Tensor) -> list[float | None]:
    """Return the share of each class's predictions that are right; None where it is not predicted."""
    return _shares((predicted & wanted).sum(0), predicted.sum(0))


def confusion(predicted: Tensor, wanted: Tensor) -> list[list[int]]:
    """Return the number of images by true class (rows) and predicted class (columns), of one class an image."""
    counts: list[list[int]] = (wanted.double().T @ predicted.double()).long().tolist()
    return counts


def class_report(judged: Judged, classes: Sequence[str], *, has_several: bool) -> dict[str, Any]:
    """Return images, precision, recall and F1 of each class, and the confusion matrix of one class an image.

    The matrix has a row for each true class and a column for each predicted one, both in the order of `classes`; None
    with several classes an image, or more than 200 classes.
    """
    predicted, wanted = judged.predicted, judged.wanted
    columns = zip(
        classes,
        wanted.sum(0).tolist(),
        precisions(predicted, wanted),
        recalls(predicted, wanted),
        f_scores(predicted, wanted),
        strict=True,
    )
    is_small = not has_several and len(classes) <= _MOST_CLASSES
    return {
        "per_class": {
            name: {"images": images, "precision": precision, "recall": recall, "f1": f1}
            for name, images, precision, recall, f1 in columns
        },
        "confusion": confusion(predicted, wanted) if is_small else None,
    }


def quadratic_kappa(predicted: Tensor, true: Tensor, *, ranks: Sequence[int]) -> float | None:
    """Return Cohen's kappa with quadratic weights of labels (N,); None where all images have one and the same label.

    1 - the sum of squared distances between ranks over that of labels paired by chance. Source: Cohen 1968, Weighted
    kappa, Psychological Bulletin 70(4).
    """
    place = torch.tensor(ranks, dtype=torch.float64)
    mine, right = place[predicted], place[true]
    seen = (mine - right).square().mean()
    # Over all pairs of a prediction and a truth: E (x - y)^2 = Var x + Var y + (E x - E y)^2.
    by_chance = mine.var(correction=0) + right.var(correction=0) + (mine.mean() - right.mean()).square()
    return float(1 - (seen / by_chance).item()) if by_chance > 0 else None


def _number(name: str) -> float | None:
    try:
        return float(name)
    except ValueError:
        return None


def _shares(counts: Tensor, totals: Tensor) -> list[float | None]:
    return [count / total if total else None for count, total in zip(counts.tolist(), totals.tolist(), strict=True)]


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
