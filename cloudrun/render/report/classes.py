"""How each class is recognised: confusion matrix, ratings by class, confidence, precision and recall. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloudrun.render.report.charts.line import Axis, LineChart, Notes, Series, line_chart
from cloudrun.render.report.rating import (
    ClassRating,
    class_ratings,
    confused_pairs,
    confusion,
    precision_recall,
    reliability,
)
from cloudrun.render.report.wording import decimal, number_tick, percent, percent_tick
from cloudrun.state.predictions import Predictions

_MATRIX_CLASSES = 40  # a larger matrix cannot be read
_CURVES = 8
_PAIRS = 12
_RATED = 300
_PARTS = 50


@dataclass(frozen=True, slots=True)
class Cell:
    """A count, how strongly it is coloured (0 to 1), and whether it is on the diagonal."""

    count: int
    strength: float
    is_right: bool


@dataclass(frozen=True, slots=True)
class MatrixRow:
    truth: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class ClassesSection:
    """`matrix` is empty where there are too many classes, or several an image; `pairs`: (truth, predicted, images)."""

    images: int
    from_file: str
    classes: tuple[str, ...]
    matrix: tuple[MatrixRow, ...]
    pairs: tuple[tuple[str, str, int], ...]
    ratings: tuple[ClassRating, ...]
    unrated: int
    macro: ClassRating
    largest: int


@dataclass(frozen=True, slots=True)
class ConfidenceSection:
    reliability: LineChart | None
    error: float
    curves: LineChart | None
    average_precisions: tuple[tuple[str, float], ...]


def classes_section(predictions: Predictions) -> ClassesSection:
    """Ratings with the weakest class first."""
    ratings = class_ratings(predictions)
    ordered = sorted(ratings, key=lambda one: (one.f1 is None, one.f1 or 0.0))
    return ClassesSection(
        images=len(predictions.rows),
        from_file=predictions.name,
        classes=predictions.classes,
        matrix=_matrix(predictions),
        pairs=tuple(confused_pairs(predictions, _PAIRS)),
        ratings=tuple(ordered[:_RATED]),
        unrated=len(ordered[_RATED:]),
        macro=_macro(ratings),
        largest=max((one.images for one in ratings), default=0),
    )


def _matrix(predictions: Predictions) -> tuple[MatrixRow, ...]:
    if predictions.has_several or len(predictions.classes) > _MATRIX_CLASSES:
        return ()
    rows = []
    for at, (name, counts) in enumerate(zip(predictions.classes, confusion(predictions), strict=True)):
        images = sum(counts)
        cells = tuple(_cell(count, images, is_right=at == column) for column, count in enumerate(counts))
        rows.append(MatrixRow(name, cells))
    return tuple(rows)


def _cell(count: int, images: int, *, is_right: bool) -> Cell:
    """Mistakes are rare where a model is good: the root of their share tells 1 % from 4 %."""
    share = count / max(images, 1)
    return Cell(count, share if is_right else share**0.5, is_right)


def _macro(ratings: Sequence[ClassRating]) -> ClassRating:
    """The mean over the classes with equal weights; what is undefined is left out of it."""
    return ClassRating(
        "mean of the classes",
        sum(one.images for one in ratings),
        sum(one.predicted for one in ratings),
        _mean([one.precision for one in ratings]),
        _mean([one.recall for one in ratings]),
        _mean([one.f1 for one in ratings]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def confidence_section(predictions: Predictions) -> ConfidenceSection:
    """Whether the probabilities mean what they say, and what a threshold of a class would give."""
    found = reliability(predictions)
    # A point a bin: two bins never have the same mean confidence.
    points = [(one.confidence, one.right) for one in found.bins]
    ideal = [(one.confidence, one.confidence) for one in found.bins]
    diagram = line_chart(
        "Reliability",
        [Series("ideal", ideal, 0), Series("right", points, 1)],
        x=Axis("confidence", percent, percent_tick, low=0.0, high=1.0),
        y=Axis("right", percent, percent_tick, low=0.0, high=1.0),
        notes=Notes("predictions", {one.confidence: str(one.count) for one in found.bins}),
    )
    rated = [one for one in class_ratings(predictions) if one.images]
    weakest = sorted(rated, key=lambda one: one.f1 or 0.0)[:_CURVES]  # more lines could not be told apart
    drawn = precision_recall(predictions, {one.name for one in weakest})
    curves = line_chart(
        "Precision by recall" if len(drawn) == len(rated) else f"Precision by recall, the weakest {len(drawn)} classes",
        [Series(one.name, _envelope(one.points), style + 1) for style, one in enumerate(drawn)],
        x=Axis("recall", percent, percent_tick, low=0.0, high=1.0),
        y=Axis("precision", decimal, number_tick, low=0.0, high=1.0),
    )
    return ConfidenceSection(diagram, found.error, curves, tuple((one.name, one.average_precision) for one in drawn))


def _envelope(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The highest precision with at least a recall of 0, 2, 4 ... 100 %: the same places for every class."""
    found: list[tuple[float, float]] = []
    highest, at = 0.0, len(points) - 1
    for part in range(_PARTS, -1, -1):
        while at >= 0 and points[at][0] >= part / _PARTS:
            highest = max(highest, points[at][1])
            at -= 1
        found.append((part / _PARTS, highest))
    return found[::-1]
