"""Read, write and rate predictions as CSV files: oof.csv (out of fold) and predictions.csv (test images)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cloudrun.imagedata.labels import SEPARATOR
from trainer.atomic import replacing
from trainer.model.targets import DecisionRule, f_scores
from trainer.outputs.prediction_table import read_table

_SMALLEST = 1e-12


@dataclass(frozen=True)
class Predictions:
    """`probabilities` (N, classes) of `images`; `truth`: the classes of each image, None where it is unknown."""

    classes: tuple[str, ...]
    images: tuple[str, ...]
    probabilities: Tensor
    truth: tuple[tuple[str, ...], ...] | None = None

    @property
    def wanted(self) -> Tensor:
        """Return the true classes of each image, bool (N, classes)."""
        assert self.truth is not None
        return torch.tensor([[name in names for name in self.classes] for names in self.truth], dtype=torch.bool)

    @property
    def has_several(self) -> bool:
        """Whether an image may have several classes, or none: probabilities then need not sum to 1."""
        sums = self.probabilities.sum(1)
        return bool(((sums - 1).abs() > 1e-3).any().item()) or any(len(names) != 1 for names in self.truth or ())


def write_oof(path: Path, predictions: Predictions, rule: DecisionRule) -> None:
    """Write a row an image: image, label (predicted), truth, and the probability of each class to 12 digits."""
    assert predictions.truth is not None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "label", "truth", *predictions.classes])
    flags = rule.predicted(predictions.probabilities).tolist()
    rows = predictions.probabilities.tolist()
    for image, predicted, truth, row in zip(predictions.images, flags, predictions.truth, rows, strict=True):
        label = SEPARATOR.join(name for name, flag in zip(predictions.classes, predicted, strict=True) if flag)
        writer.writerow([image, label, SEPARATOR.join(truth), *(f"{value:.12g}" for value in row)])
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def write_test_predictions(path: Path, predictions: Predictions, rule: DecisionRule) -> None:
    """Write a row an image: image, label (predicted, several as `a|b`), confidence, and the probability of each class.

    The confidence is the probability of the label; of several labels, of the least certain; of none, that no class is
    present.
    """
    header = ["image", "label", "confidence", *predictions.classes]
    cells = _label_and_probabilities(predictions, rule)
    _write_csv(path, header, ([image, *row] for image, row in zip(predictions.images, cells, strict=True)))


def write_val_predictions(path: Path, predictions: Predictions, rule: DecisionRule) -> None:
    """Write a row an image: image, truth, label, confidence, and the probability of each class."""
    assert predictions.truth is not None
    header = ["image", "truth", "label", "confidence", *predictions.classes]
    cells = _label_and_probabilities(predictions, rule)
    rows = zip(predictions.images, predictions.truth, cells, strict=True)
    _write_csv(path, header, ([image, SEPARATOR.join(truth), *row] for image, truth, row in rows))


def _label_and_probabilities(predictions: Predictions, rule: DecisionRule) -> Iterator[list[str]]:
    """Yield label, confidence and probabilities of each image, to six digits."""
    flags_by_image = rule.predicted(predictions.probabilities).tolist()
    for row, flags in zip(predictions.probabilities.tolist(), flags_by_image, strict=True):
        predicted = [index for index, flag in enumerate(flags) if flag]
        confidence = min(row[index] for index in predicted) if predicted else 1 - max(row)
        label = SEPARATOR.join(predictions.classes[index] for index in predicted)
        yield [label, f"{confidence:.6f}", *(f"{value:.6f}" for value in row)]


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def read_predictions(path: Path) -> Predictions:
    """Read an oof.csv (with truth) or a predictions.csv (without). Raises TrainerError naming the wrong line."""
    table = read_table(path)
    return Predictions(
        classes=table.classes,
        images=table.images,
        probabilities=torch.tensor(table.probabilities, dtype=torch.float64).reshape(
            len(table.images), len(table.classes)
        ),
        truth=table.truth,
    )


def rate(predictions: Predictions, rule: DecisionRule) -> dict[str, Any]:
    """Return accuracy, macro F1, log loss and ROC AUC (one class against the rest, macro), and the same by class.

    The log loss is in nats: of the true class, or with several classes an image the mean over all classes. A value that
    is undefined (no image of a class) is None, and is left out of the means.
    """
    wanted, predicted = predictions.wanted, rule.predicted(predictions.probabilities)
    f1 = f_scores(predicted, wanted)
    areas = [roc_auc(predictions.probabilities[:, at], wanted[:, at]) for at in range(len(predictions.classes))]
    counts, hits = wanted.sum(0).tolist(), (wanted & predicted).sum(0).tolist()
    return {
        "images": len(predictions.images),
        "accuracy": float((predicted == wanted).all(1).double().mean().item()),
        "macro_f1": _mean(f1),
        "log_loss": log_loss(predictions.probabilities, wanted, several=rule.thresholds is not None),
        "roc_auc": _mean(areas),
        "per_class": {
            name: {"images": count, "recall": hit / count if count else None, "f1": score, "roc_auc": area}
            for name, count, hit, score, area in zip(predictions.classes, counts, hits, f1, areas, strict=True)
        },
    }


def log_loss(probabilities: Tensor, wanted: Tensor, *, several: bool) -> float:
    """Return the log loss in nats; probabilities (N, classes) are clipped to 1e-12 away from 0 and 1."""
    safe = probabilities.clamp(_SMALLEST, 1 - _SMALLEST)
    if several:
        return float(-torch.where(wanted, safe.log(), (1 - safe).log()).mean().item())
    return float(-safe[wanted].log().mean().item())


def roc_auc(scores: Tensor, is_true: Tensor) -> float | None:
    """Return how often the score (N,) of a true image is above that of a false one, a tie counting half.

    None without a true and a false image.
    """
    true, false = int(is_true.sum()), int((~is_true).sum())
    if not true or not false:
        return None
    _, place, count = torch.unique(scores, return_inverse=True, return_counts=True)
    rank = (count.cumsum(0) - (count - 1) / 2)[place]  # equal scores have the mean of their ranks
    return float((rank[is_true].sum().item() - true * (true + 1) / 2) / (true * false))


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None and math.isfinite(value)]
    return sum(defined) / len(defined) if defined else None
