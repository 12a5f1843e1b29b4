"""How much better one method is than another on the same images, and what is chosen by that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from trainer.learners import Floats, Ints

Metric = Literal["accuracy", "log_loss"]
_SAFE = 1e-12


@dataclass(frozen=True, slots=True)
class Difference:
    """To the peer, image by image; more is better. The errors are standard errors of these means.

    `log_loss` is in nats below that of the peer. `won`: images named right that the peer named wrong; `lost`.
    """

    accuracy: float
    accuracy_error: float
    log_loss: float
    log_loss_error: float
    won: int
    lost: int

    def by(self, metric: Metric) -> tuple[float, float]:
        """What is gained, and its standard error."""
        if metric == "accuracy":
            return self.accuracy, self.accuracy_error
        return self.log_loss, self.log_loss_error


def compare(candidate: Floats, peer: Floats, truth: Ints) -> Difference:
    """Paired: each image is judged by both, so what is hard for both does not blur the difference."""
    right, was_right = candidate.argmax(1) == truth, peer.argmax(1) == truth
    gains = right.astype(np.float64) - was_right
    losses, were = (-np.log(one[np.arange(len(truth)), truth].clip(_SAFE, 1 - _SAFE)) for one in (candidate, peer))
    accuracy, accuracy_error = _mean_and_error(gains)
    log_loss, log_loss_error = _mean_and_error(were - losses)
    return Difference(
        accuracy,
        accuracy_error,
        log_loss,
        log_loss_error,
        int((right & ~was_right).sum()),
        int((was_right & ~right).sum()),
    )


def choose(differences: Mapping[str, Difference], peer: str, metric: Metric) -> str:
    """The best by `metric`, ties by the other, among those that beat `peer` by more than a standard error.

    Without one it is `peer`, which learned next to nothing, and so nothing by heart. To take the best of several by
    the images that judge them leans to the good all the same.
    """

    other: Metric = "log_loss" if metric == "accuracy" else "accuracy"
    gains = {name: one.by(metric) for name, one in differences.items()}
    better = [name for name, (gain, error) in gains.items() if gain > error]
    return max(better, key=lambda name: (gains[name][0], differences[name].by(other)[0]), default=peer)


def table_of(
    rates: Mapping[str, Mapping[str, Any]], differences: Mapping[str, Difference], peer: str, metric: Metric
) -> list[str]:
    """Lines: a heading, then a method each."""
    heading = "accuracy" if metric == "accuracy" else "log loss saved"
    lines = [f"method    accuracy  macro F1  log loss   ROC AUC  {heading} against `{peer}`"]
    for name, one in rates.items():
        cells = "".join(f"{_shown(one[key]):>10}" for key in ("macro_f1", "log_loss", "roc_auc"))
        against = ""
        if name in differences:
            of = differences[name]
            gain, error = of.by(metric)
            against = f"  {gain:+.4f} ± {error:.4f}, {of.won - of.lost:+d} images ({of.won} won, {of.lost} lost)"
        lines.append(f"{name:<8}{_shown(one['accuracy']):>10}{cells}{against}")
    return lines


def verdict(chosen: str, differences: Mapping[str, Difference], peer: str, metric: Metric) -> str:
    name = "accuracy" if metric == "accuracy" else "log loss"
    if chosen == peer:
        return f"chosen: {peer}, as none beats its {name} by more than the standard error of the difference"
    gain, error = differences[chosen].by(metric)
    return f"chosen: {chosen}, whose {name} is better by {gain:.4f} ± {error:.4f}; chosen by that, it leans to the good"


def _mean_and_error(values: Floats) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
