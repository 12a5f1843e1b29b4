"""Compare methods on the same images, and choose the best one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from cloudrun.recipe.train_config import MetricName
from trainer.model.targets import DecisionRule
from trainer.outputs.predictions import Predictions
from trainer.outputs.scoring import ACCURACY, Metric, judged_of
from trainer.stacking.learners import Floats, Mask

_OF_EVERY_TABLE = ("accuracy", "macro_f1", "log_loss")
_SAFE = 1e-12
_DRAWS = 200
_ROUNDING = 1e-9  # one image won and none lost is a gain equal to its error


@dataclass(frozen=True)
class Answer:
    """Predictions of a method for images whose classes are known, and the rule that makes classes of them."""

    predictions: Predictions
    rule: DecisionRule

    @cached_property
    def wanted(self) -> Mask:
        """True classes, bool (N, classes)."""
        return np.asarray(self.predictions.wanted.numpy())

    @cached_property
    def predicted(self) -> Mask:
        """Predicted classes, bool (N, classes)."""
        return np.asarray(self.rule.predicted(self.predictions.probabilities).numpy())

    @property
    def right(self) -> Mask:
        """Whether all classes of the image are right, and no other, bool (N,)."""
        return np.asarray((self.predicted == self.wanted).all(1))

    @property
    def losses(self) -> Floats:
        """Log loss (N,) in nats: of the true class, or with several classes an image the mean over all classes."""
        safe = np.asarray(self.predictions.probabilities.numpy(), dtype=np.float64).clip(_SAFE, 1 - _SAFE)
        if self.rule.thresholds is None:
            return np.asarray(-np.log(safe[self.wanted]))
        return np.asarray(-np.log(np.where(self.wanted, safe, 1 - safe)).mean(axis=1))

    def draws(self, metric: Metric) -> Floats:
        """Return the metric's gain of these images, then of each bootstrap sample, the same ones for each answer."""
        judged = judged_of(self.predictions, self.rule)
        images, chance = len(judged.wanted), np.random.default_rng(0)
        rows = [np.arange(images), *(chance.integers(images, size=images) for _ in range(_DRAWS))]
        return np.asarray([metric.gain(metric.of(judged[torch.from_numpy(drawn)])) for drawn in rows])

    @cached_property
    def macro_f1s(self) -> Floats:
        """Macro F1 of these images, then of each bootstrap sample of them; the samples are the same for each answer.

        Classes that no image of a sample has or gets are left out.
        """
        both, either = (
            (self.predicted & self.wanted).astype(np.float64),
            self.predicted.astype(np.float64) + self.wanted,
        )
        images, chance = len(both), np.random.default_rng(0)
        scores = []
        for draw in range(1 + _DRAWS):
            drawn = chance.integers(images, size=images) if draw else np.arange(images)
            times = np.bincount(drawn, minlength=images).astype(np.float64)
            hits, present = times @ both, times @ either
            scores.append((2 * hits[present > 0] / present[present > 0]).mean() if present.any() else 0.0)
        return np.asarray(scores)


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference to the peer on the same images; positive is better. Errors are standard errors.

    `log_loss`: nats below that of the peer. `won`: images right here and wrong by the peer; `lost`: the reverse.
    """

    accuracy: float
    accuracy_error: float
    macro_f1: float
    macro_f1_error: float
    log_loss: float
    log_loss_error: float
    won: int
    lost: int
    other: float = 0.0  # by the competition's metric, where it is none of these
    other_error: float = 0.0

    def by(self, metric: MetricName) -> tuple[float, float]:
        """Return the gain by `metric`, and its standard error."""
        match metric:
            case "accuracy":
                return self.accuracy, self.accuracy_error
            case "macro_f1":
                return self.macro_f1, self.macro_f1_error
            case "log_loss":
                return self.log_loss, self.log_loss_error
            case _:
                return self.other, self.other_error


def differences_to(peer: str, answers: Mapping[str, Answer], metric: Metric = ACCURACY) -> dict[str, Difference]:
    """Return the difference of each answer to that of `peer`; by `metric`, too."""
    differences = {name: compare(answer, answers[peer]) for name, answer in answers.items() if name != peer}
    if metric.name in _OF_EVERY_TABLE:
        return differences
    of_peer = answers[peer].draws(metric)
    for name, difference in differences.items():
        gain, *drawn = answers[name].draws(metric) - of_peer
        differences[name] = replace(difference, other=float(gain), other_error=float(np.nanstd(drawn, ddof=1)))
    return differences


def compare(candidate: Answer, peer: Answer) -> Difference:
    """Compare paired: both judge each image, so that images that are hard for both do not blur the difference.

    Macro F1 is not a mean over images: its error comes from bootstrap samples, the same for both. Source: Efron 1979,
    Bootstrap methods, Annals of Statistics 7(1).
    """
    right, was_right = candidate.right, peer.right
    accuracy, accuracy_error = _mean_and_error(right.astype(np.float64) - was_right)
    log_loss, log_loss_error = _mean_and_error(peer.losses - candidate.losses)
    macro_f1, *drawn = candidate.macro_f1s - peer.macro_f1s
    return Difference(
        accuracy,
        accuracy_error,
        float(macro_f1),
        float(np.std(drawn, ddof=1)),
        log_loss,
        log_loss_error,
        int((right & ~was_right).sum()),
        int((was_right & ~right).sum()),
    )


def choose(differences: Mapping[str, Difference], peer: str, metric: MetricName) -> str:
    """Return the best method by `metric` among those that beat `peer` by more than a standard error, else `peer`.

    Ties are broken by the log loss, then by accuracy. `peer` has learned next to nothing, and so cannot overfit. To
    take the best of several by the images that judge them is still optimistic.
    """
    other: MetricName = "accuracy" if metric == "log_loss" else "log_loss"
    gains = {name: difference.by(metric) for name, difference in differences.items()}
    better = [name for name, (gain, error) in gains.items() if gain > error * (1 + _ROUNDING)]
    return max(better, key=lambda name: (gains[name][0], differences[name].by(other)[0]), default=peer)


def table_of(
    rates: Mapping[str, Mapping[str, Any]], differences: Mapping[str, Difference], peer: str, metric: MetricName
) -> list[str]:
    """Return lines: a heading, then one for each method."""
    heading = "log loss saved" if metric == "log_loss" else _heading(metric)
    lines = [f"method    accuracy  macro F1  log loss   ROC AUC  {heading} against `{peer}`"]
    for name, rate in rates.items():
        cells = "".join(f"{_shown(rate[key]):>10}" for key in ("macro_f1", "log_loss", "roc_auc"))
        against = ""
        if name in differences:
            of = differences[name]
            gain, error = of.by(metric)
            against = f"  {gain:+.4f} ± {error:.4f}, {of.won - of.lost:+d} images ({of.won} won, {of.lost} lost)"
        lines.append(f"{name:<8}{_shown(rate['accuracy']):>10}{cells}{against}")
    return lines


def choice_text(chosen: str, differences: Mapping[str, Difference], peer: str, metric: MetricName) -> str:
    name = _heading(metric)
    if chosen == peer:
        return f"chosen: {peer}, as none beats its {name} by more than the standard error of the difference"
    gain, error = differences[chosen].by(metric)
    return f"chosen: {chosen}, whose {name} is better by {gain:.4f} ± {error:.4f}; chosen by that, it leans to the good"


def _heading(metric: MetricName) -> str:
    return {"macro_f1": "macro F1", "f_beta": "F-beta", "auc": "ROC AUC"}.get(metric, metric.replace("_", " "))


def _mean_and_error(values: Floats) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
