"""Predictions for images whose class is known, as they came home: `predictions-val.csv`, or `oof.csv` of folds.

The files may hold anything: a row that is no prediction is left out and counted, and a file that is none is Unreadable.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudrun.files.untrusted import LARGEST_RESULT_BYTES, Unreadable, read_limited
from cloudrun.imagedata.labels import SEPARATOR
from cloudrun.protocol.outputs import OUT_OF_FOLD, PREDICTIONS_VAL

_HEADERS = (("image", "truth", "label", "confidence"), ("image", "label", "truth"))
_MOST_CLASSES = 100_000
_LONGEST_CELL = 10_000


@dataclass(frozen=True, slots=True)
class Prediction:
    """An image: its true classes, those that were predicted, how sure the model was, a probability for each class.

    `confidence` is the probability of the label; of several labels, of the least certain; of none, that no class is
    present.
    """

    image: str
    truth: tuple[str, ...]
    label: tuple[str, ...]
    confidence: float
    probabilities: tuple[float, ...]

    @property
    def is_right(self) -> bool:
        return set(self.truth) == set(self.label)


@dataclass(frozen=True, slots=True)
class Predictions:
    """Rows of the file called `name`; `left_out` is the number of lines that are no prediction."""

    name: str
    classes: tuple[str, ...]
    rows: tuple[Prediction, ...]
    left_out: int = 0

    @property
    def has_several(self) -> bool:
        """Whether an image may have several classes, or none."""
        return any(len(row.truth) != 1 or len(row.label) != 1 for row in self.rows)


def predictions_at(folder: Path) -> tuple[Predictions | None, str]:
    """The judged predictions in `folder`, None where there are none; and what is wrong with their file, if anything.

    Folds write `oof.csv`: each image is judged by the fold that did not train on it.
    """
    for name in (OUT_OF_FOLD, PREDICTIONS_VAL):
        path = folder / name
        try:
            content = read_limited(path, LARGEST_RESULT_BYTES)
            if content is None:
                continue
            found = predictions_from(content.decode("utf-8-sig", "replace"), name)
        except Unreadable as err:
            return None, f"{path} cannot be read: {err}"
        left_out = f"{path}: {found.left_out} line(s) that are no prediction are left out" if found.left_out else ""
        return found, left_out
    return None, ""


def predictions_from(text: str, name: str) -> Predictions:
    """The predictions in the content of a CSV file. Raises Unreadable where it has no such columns."""
    lines = _lines(text)
    header = next(lines, [])
    fixed = next((known for known in _HEADERS if tuple(header[: len(known)]) == known), None)
    classes = tuple(header[len(fixed) :]) if fixed else ()
    if fixed is None or not classes:
        named = ", ".join(header)[:100] or "none"
        raise Unreadable(f"its columns are {named}, and not {', '.join(_HEADERS[0])} and the classes")
    if len(set(classes)) < len(classes) or len(classes) > _MOST_CLASSES:
        raise Unreadable(
            "two of its columns have the same name" if len(classes) <= _MOST_CLASSES else "too many columns"
        )
    places = {one: at for at, one in enumerate(classes)}
    rows, left_out = [], 0
    for cells in lines:
        row = _row(cells, fixed, places, columns=len(header))
        if row is None:
            left_out += 1
        else:
            rows.append(row)
    return Predictions(name, classes, tuple(rows), left_out)


def _lines(text: str) -> Iterator[list[str]]:
    """The lines of the file that hold something. A line that is not CSV ends them as an empty row, which is counted."""
    reader = csv.reader(io.StringIO(text.replace("\0", "\ufffd"), newline=""))
    try:
        yield from filter(None, reader)
    except csv.Error:
        yield [""]


def _row(cells: Sequence[str], fixed: Sequence[str], places: Mapping[str, int], *, columns: int) -> Prediction | None:
    if len(cells) != columns or any(len(cell) > _LONGEST_CELL for cell in cells[: len(fixed)]):
        return None
    named = dict(zip(fixed, cells, strict=False))
    try:
        probabilities = tuple(map(float, cells[len(fixed) :]))
        confidence = float(named["confidence"]) if "confidence" in named else None
    except ValueError:
        return None
    # NaN is in no range.
    if not all(0 <= value <= 1 for value in (*probabilities, *(() if confidence is None else (confidence,)))):
        return None
    truth, label = _names(named["truth"], places), _names(named["label"], places)
    if truth is None or label is None:
        return None
    if confidence is None:
        confidence = min((probabilities[places[one]] for one in label), default=1 - max(probabilities))
    return Prediction(named["image"], truth, label, confidence, probabilities)


def _names(cell: str, classes: Container[str]) -> tuple[str, ...] | None:
    """The classes that a cell names; None where one of them is no class of the file."""
    if cell in classes:
        return (cell,)
    names = tuple(part for part in cell.split(SEPARATOR) if part)
    return names if all(name in classes for name in names) else None
