"""Rate predictions for images whose class is known: by class, by confidence, by pairs of classes. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from cloudrun.state.predictions import Prediction, Predictions

_BINS = 10
_Z = 1.96  # of the normal distribution, for 95 %


@dataclass(frozen=True, slots=True)
class ClassRating:
    """How a class is recognised; None where no image has it (recall), or none was given it (precision)."""

    name: str
    images: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of similar confidence: their mean confidence, and the share of them that is right."""

    count: int
    confidence: float
    right: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """Ten bins of confidence, without the empty ones; `error` is the mean gap, weighted by images (ECE)."""

    bins: tuple[Bin, ...]
    error: float


@dataclass(frozen=True, slots=True)
class PrecisionRecall:
    """Precision by recall of one class against the rest, and the area below (average precision)."""

    name: str
    average_precision: float
    points: tuple[tuple[float, float], ...]  # recall, precision


@dataclass(frozen=True, slots=True)
class Interval:
    """The shares that fit what was counted with 95 % confidence."""

    low: float
    high: float


def accuracy(predictions: Predictions) -> float:
    return sum(row.is_right for row in predictions.rows) / len(predictions.rows)


def accuracy_interval(predictions: Predictions) -> Interval:
    """Wilson's interval. Source: E. B. Wilson 1927, Journal of the American Statistical Association 22."""
    count, share = len(predictions.rows), accuracy(predictions)
    spread = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    middle, scale = share + _Z**2 / (2 * count), 1 + _Z**2 / count
    return Interval(max((middle - spread) / scale, 0.0), min((middle + spread) / scale, 1.0))


def class_ratings(predictions: Predictions) -> list[ClassRating]:
    """A rating for each class, in the order of the file."""
    images = Counter(name for row in predictions.rows for name in row.truth)
    predicted = Counter(name for row in predictions.rows for name in row.label)
    right = Counter(name for row in predictions.rows for name in set(row.truth) & set(row.label))
    return [_class_rating(name, images[name], predicted[name], right[name]) for name in predictions.classes]


def _class_rating(name: str, images: int, predicted: int, right: int) -> ClassRating:
    return ClassRating(
        name,
        images,
        predicted,
        precision=right / predicted if predicted else None,
        recall=right / images if images else None,
        f1=2 * right / (images + predicted) if images or predicted else None,
    )


def confusion(predictions: Predictions) -> list[list[int]]:
    """Count of images by true class (row) and predicted class (column); every image has one class of each."""
    place = {name: at for at, name in enumerate(predictions.classes)}
    counts = [[0] * len(place) for _ in place]
    for row in predictions.rows:
        counts[place[row.truth[0]]][place[row.label[0]]] += 1
    return counts


def confused_pairs(predictions: Predictions, most: int) -> list[tuple[str, str, int]]:
    """(true class, predicted class, images) of the most frequent mistakes between two classes."""
    pairs = Counter(
        (row.truth[0], row.label[0])
        for row in predictions.rows
        if len(row.truth) == len(row.label) == 1 and not row.is_right
    )
    return [(truth, label, count) for (truth, label), count in sorted(pairs.items(), key=lambda one: -one[1])[:most]]


def surest_mistakes(predictions: Predictions, most: int) -> list[Prediction]:
    """The mistakes that the model was surest of."""
    wrong = [row for row in predictions.rows if not row.is_right]
    return sorted(wrong, key=lambda row: (-row.confidence, row.image))[:most]


def reliability(predictions: Predictions) -> Reliability:
    """How often predictions are right, by how sure they are.

    With several classes an image, each class of each image is a prediction of its own.
    """
    if predictions.has_several:
        sure = [
            (probability, name in row.truth)
            for row in predictions.rows
            for name, probability in zip(predictions.classes, row.probabilities, strict=True)
        ]
    else:
        sure = [(row.confidence, row.is_right) for row in predictions.rows]
    parts: list[list[tuple[float, bool]]] = [[] for _ in range(_BINS)]
    for one in sure:
        parts[min(int(one[0] * _BINS), _BINS - 1)].append(one)
    bins = tuple(
        Bin(len(part), sum(value for value, _ in part) / len(part), sum(right for _, right in part) / len(part))
        for part in parts
        if part
    )
    return Reliability(bins, sum(one.count * abs(one.confidence - one.right) for one in bins) / max(len(sure), 1))


def precision_recall(predictions: Predictions, names: Collection[str]) -> list[PrecisionRecall]:
    """A curve for each of the classes `names` that some image has, in the order of the file."""
    curves = []
    for at, name in enumerate(predictions.classes):
        if name not in names:
            continue
        scored = [(row.probabilities[at], name in row.truth) for row in predictions.rows]
        if any(is_true for _, is_true in scored):
            curves.append(_curve(name, scored))
    return curves


def _curve(name: str, scored: list[tuple[float, bool]]) -> PrecisionRecall:
    """Equal scores are one point: no threshold tells them apart."""
    wanted = sum(is_true for _, is_true in scored)
    points: list[tuple[float, float]] = []
    area, hits, before = 0.0, 0, None
    for count, (score, is_true) in enumerate(sorted(scored, key=lambda one: -one[0]), start=1):
        if before == score:
            points.pop()
        hits += is_true
        points.append((hits / wanted, hits / count))
        before = score
    last = 0.0
    for recall, precision in points:
        area += (recall - last) * precision
        last = recall
    return PrecisionRecall(name, area, tuple(points))
