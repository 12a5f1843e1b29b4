"""Read predictions.csv or oof.csv as plain values. Imports no torch: a submission is written where torch is not."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from cloudrun.imagedata.labels import SEPARATOR
from trainer.errors import TrainerError


@dataclass(frozen=True, slots=True)
class PredictionTable:
    """A row an image: the image, its predicted label (several as `a|b`), and the probability of each class.

    `truth`: the classes of each image; None in a predictions.csv.
    """

    classes: tuple[str, ...]
    images: tuple[str, ...]
    labels: tuple[str, ...]
    probabilities: tuple[tuple[float, ...], ...]
    truth: tuple[tuple[str, ...], ...] | None


def read_table(path: Path) -> PredictionTable:
    """Read an oof.csv (with truth) or a predictions.csv (without). Raises TrainerError naming the wrong line."""
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise TrainerError(f"{path} cannot be read: {err}", hint="name an oof.csv or a predictions.csv") from None
    header = lines[0] if lines else []
    if header[:2] != ["image", "label"] or header[2:3] not in (["truth"], ["confidence"]) or len(header) < 5:
        raise TrainerError(
            f"{path}:1: the columns are {', '.join(header) or 'none'}",
            hint="the header is image,label,truth or image,label,confidence, then the classes",
        )
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        try:
            values = tuple(float(cell) for cell in cells[3:])
        except ValueError as err:
            raise TrainerError(f"{path}:{number}: {err}", hint="a probability for each class") from None
        if len(cells) != len(header) or not all(0 <= value <= 1 for value in values):
            raise TrainerError(
                f"{path}:{number}: the row has no probability from 0 to 1 for each class", hint="write the file again"
            )
        rows.append(values)
    truth = tuple(tuple(part for part in cells[2].split(SEPARATOR) if part) for cells in lines[1:])
    return PredictionTable(
        classes=tuple(header[3:]),
        images=tuple(cells[0] for cells in lines[1:]),
        labels=tuple(cells[1] for cells in lines[1:]),
        probabilities=tuple(rows),
        truth=truth if header[2] == "truth" else None,
    )
