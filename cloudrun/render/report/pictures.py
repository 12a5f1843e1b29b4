"""Single images: the surest mistakes, and samples of each class. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloudrun.render.report.rating import surest_mistakes
from cloudrun.render.report.wording import several
from cloudrun.state.predictions import Predictions
from cloudrun.state.thumbnails import Thumbnail

_MISTAKES = 24
_SAMPLES_A_CLASS = 6
_AUGMENTED = 12
_SAMPLED_CLASSES = 40


@dataclass(frozen=True, slots=True)
class Mistake:
    """`picture` and `heat` are `data:` addresses; empty where no thumbnail came home.

    `heat`: the image as the model saw it, warm where it spoke for the class `label`.
    """

    image: str
    truth: str
    label: str
    confidence: float
    picture: str
    heat: str


@dataclass(frozen=True, slots=True)
class MistakesSection:
    shown: tuple[Mistake, ...]
    wrong: int
    images: int
    has_pictures: bool
    has_heat: bool


@dataclass(frozen=True, slots=True)
class ClassSamples:
    name: str
    samples: tuple[tuple[str, str], ...]  # image, picture


def mistakes_section(predictions: Predictions, thumbnails: Sequence[Thumbnail]) -> MistakesSection | None:
    """The mistakes that the model was surest of; None where it made none."""
    wrong = sum(not row.is_right for row in predictions.rows)
    if not wrong:
        return None
    pictures = {one.image: one.uri for one in thumbnails if one.kind in ("mistake", "sample")}
    heats = {one.image: one.uri for one in thumbnails if one.kind == "gradcam"}
    shown = tuple(
        Mistake(
            row.image,
            several(row.truth),
            several(row.label),
            row.confidence,
            pictures.get(row.image, ""),
            heats.get(row.image, ""),
        )
        for row in surest_mistakes(predictions, _MISTAKES)
    )
    return MistakesSection(
        shown, wrong, len(predictions.rows), any(one.picture for one in shown), any(one.heat for one in shown)
    )


def class_samples(thumbnails: Sequence[Thumbnail]) -> list[ClassSamples]:
    """Some images of each class, by the name of the class."""
    by_class: dict[str, list[tuple[str, str]]] = {}
    for one in thumbnails:
        if one.kind == "sample":
            by_class.setdefault(one.label, []).append((one.image, one.uri))
    return [
        ClassSamples(name, tuple(samples[:_SAMPLES_A_CLASS]))
        for name, samples in sorted(by_class.items())[:_SAMPLED_CLASSES]
    ]


def augmented_samples(thumbnails: Sequence[Thumbnail]) -> list[tuple[str, str]]:
    """Return class and picture of some training images as the model saw them."""
    return [(one.label, one.uri) for one in thumbnails if one.kind == "augmented"][:_AUGMENTED]
