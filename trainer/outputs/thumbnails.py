"""Write small pictures for the report: the surest mistakes, samples of each class, and what the model looked at.

Files of a JSON object a line, which come home with the results; the images themselves may be on this machine alone.
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator
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
_EXPLAINED = 12
_LARGEST_BYTES = 60_000  # of a picture

Explain = Callable[[str, str], Image.Image | None]
"""Draws what the model looked at for a class: of (image, class); None where that cannot be drawn."""


@dataclass(frozen=True, slots=True)
class Picked:
    """An image that is worth a picture; `label` is a true class of it, empty where it has none."""

    image: str
    kind: Literal["mistake", "sample"]
    label: str
    predicted: str = ""  # of a mistake, the wrong class that is the most probable; empty where none was predicted


def write_thumbnails(  # noqa: PLR0913 - the pictures, and how many
    path: Path,
    folder: Path,
    predictions: Predictions,
    rule: DecisionRule,
    *,
    explain: Explain | None = None,
    most_bytes: int = 2_000_000,
    most_seconds: float = 3.0,
) -> None:
    """Write a line a picture: image, kind, label, jpeg (base64). `folder`: what the images' names are relative to.

    The file has at most `most_bytes`. No further picture is begun after `most_seconds`, because the machine is billed;
    mistakes come first. An image that cannot be read is left out. `explain`: draws some of the mistakes (kind
    `gradcam`, with the predicted class as label) after all others, for `most_seconds` more.
    """
    chosen = list(picked(predictions, rule))
    with replacing(path) as file:
        left = most_bytes
        for line in _within(most_seconds, (_photograph(one, folder) for one in chosen)):
            left -= len(line)
            if left < 0:
                return
            file.write(line)
        wrong = [one for one in chosen if one.kind == "mistake" and one.predicted][:_EXPLAINED]
        for line in _within(most_seconds, (_explained(one, explain) for one in wrong)) if explain else ():
            left -= len(line)
            if left < 0:
                return
            file.write(line)


def write_seen(path: Path, images: Iterable[Image.Image], labels: Iterable[str]) -> None:
    """Write a line a picture of training images as the model saw them, augmented (kind `augmented`)."""
    lines = [_line("", "augmented", label, image) for image, label in zip(images, labels, strict=True)]
    with replacing(path, durable=False) as file:
        file.write(b"".join(line for line in lines if line is not None))


def _within(seconds: float, lines: Iterator[bytes | None]) -> Iterator[bytes]:
    """Yield the lines that are begun within `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() <= until:
        try:
            line = next(lines)
        except StopIteration:
            return
        if line is not None:
            yield line


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
        # The least certain of the labels may be right: the picture is of the wrong label that is the most probable.
        named = predicted[at] & ~predictions.wanted[at]
        label = predictions.classes[int(predictions.probabilities[at].masked_fill(~named, -1).argmax())]
        truth = next(iter(predictions.truth[at]), "")
        yield Picked(predictions.images[at], "mistake", truth, label if bool(named.any()) else "")
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


def _photograph(one: Picked, folder: Path) -> bytes | None:
    try:
        image = read_image(folder / one.image, at_least=_SIDE).image
    except UnreadableImage:
        return None
    return _line(one.image, one.kind, one.label, image)


def _explained(one: Picked, explain: Explain) -> bytes | None:
    image = explain(one.image, one.predicted)
    return None if image is None else _line(one.image, "gradcam", one.predicted, image)


def _line(name: str, kind: str, label: str, image: Image.Image) -> bytes | None:
    """Return a line of the file; None where the picture is larger than one may be."""
    jpeg = _jpeg(image)
    if jpeg is None:
        return None
    row = {"image": name, "kind": kind, "label": label, "jpeg": base64.b64encode(jpeg).decode("ascii")}
    return (json.dumps(row) + "\n").encode()


def _jpeg(image: Image.Image) -> bytes | None:
    """Return the image as a small JPEG; None where that is larger than a picture may be. Makes `image` smaller."""
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=_QUALITY, optimize=True)
    return content.getvalue() if content.tell() <= _LARGEST_BYTES else None
