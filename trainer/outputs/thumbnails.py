"""Write small pictures of validation images for the report: the surest mistakes, and samples of each class.

One file of a JSON object a line, which comes home with the results; the images themselves may be on this machine alone.
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image

from cloudrun.imagedata.pixels import UnreadableImage, read_image
from trainer.atomic import replacing
from trainer.model.targets import DecisionRule
from trainer.outputs.predictions import Predictions

_SIDE = 160  # pixels of the longer side
_QUALITY = 80
_MISTAKES = 24
_SAMPLES = 240  # of all classes
_SAMPLES_OF_A_CLASS = 4
_LARGEST_BYTES = 60_000  # of a picture


@dataclass(frozen=True, slots=True)
class Picked:
    """An image that is worth a picture; `label` is a true class of it, empty where it has none."""

    image: str
    kind: Literal["mistake", "sample"]
    label: str


def write_thumbnails(  # noqa: PLR0913 - the pictures, and how many
    path: Path,
    folder: Path,
    predictions: Predictions,
    rule: DecisionRule,
    *,
    most_bytes: int = 2_000_000,
    most_seconds: float = 3.0,
) -> None:
    """Write a line a picture: image, kind, label, jpeg (base64). `folder`: what the images' names are relative to.

    The file has at most `most_bytes`. No further picture is begun after `most_seconds`, because the machine is billed;
    mistakes come first. An image that cannot be read is left out.
    """
    until = time.monotonic() + most_seconds
    written = 0
    with replacing(path) as file:
        for one in picked(predictions, rule):
            if time.monotonic() > until:
                break
            jpeg = _thumbnail(folder / one.image)
            if jpeg is None:
                continue
            encoded = base64.b64encode(jpeg).decode("ascii")
            row = {"image": one.image, "kind": one.kind, "label": one.label, "jpeg": encoded}
            line = (json.dumps(row) + "\n").encode()
            written += len(line)
            if written > most_bytes:
                break
            file.write(line)


def picked(predictions: Predictions, rule: DecisionRule) -> Iterator[Picked]:
    """Yield the mistakes, the surest first, then images of each class in turn."""
    assert predictions.truth is not None
    predicted = rule.predicted(predictions.probabilities)
    wrong = (predicted != predictions.wanted).any(1)
    # As in predictions-val.csv: of several labels the least certain, of none that no class is present.
    least = predictions.probabilities.masked_fill(~predicted, 2.0).amin(1)
    confidence = torch.where(predicted.any(1), least, 1 - predictions.probabilities.amax(1))
    surest = torch.argsort(confidence, descending=True, stable=True)
    for at in surest[wrong[surest]][:_MISTAKES].tolist():
        yield Picked(predictions.images[at], "mistake", next(iter(predictions.truth[at]), ""))
    yield from _samples(predictions)


def _samples(predictions: Predictions) -> Iterator[Picked]:
    """Yield the first image of each class, then the second, so that a bound leaves no class without a picture."""
    assert predictions.truth is not None
    of_class: dict[str, list[str]] = {name: [] for name in predictions.classes}
    for image, names in zip(predictions.images, predictions.truth, strict=True):
        for name in names:
            if len(of_class[name]) < _SAMPLES_OF_A_CLASS:
                of_class[name].append(image)
    rounds = [(name, images[turn]) for turn in range(_SAMPLES_OF_A_CLASS) for name, images in of_class.items()
              if turn < len(images)]  # fmt: skip
    for name, image in rounds[:_SAMPLES]:
        yield Picked(image, "sample", name)


def _thumbnail(path: Path) -> bytes | None:
    """The JPEG; None where the image cannot be read, or is larger than a picture may be."""
    try:
        image = read_image(path, at_least=_SIDE).image
    except UnreadableImage:
        return None
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=_QUALITY, optimize=True)
    return content.getvalue() if content.tell() <= _LARGEST_BYTES else None
