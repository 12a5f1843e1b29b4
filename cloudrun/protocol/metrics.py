"""`metrics.jsonl` as it comes home: the trainer's rows, or whatever a command of the user's own wrote there."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from cloudrun.files.untrusted import LARGEST_RESULT_BYTES, read_regular
from cloudrun.protocol.outputs import METRICS

_NUMBERS = ("loss", "accuracy", "lr", "images_per_s")
OTHER_METRICS = ("balanced_accuracy", "f_beta", "auc", "log_loss", "quadratic_kappa", "top_k")
"""Metrics of competitions, beside accuracy and macro F1, that a row may have."""
_EXTRAS = ("macro_f1", "wait_share", *OTHER_METRICS)  # numbers without which a row is still one
_USED = ("kind", "epoch", "step", "fold", "time", *_NUMBERS, *_EXTRAS)
_LONGEST_ROW = 100_000
_LARGEST = 1e30
_EPOCHS = range(10**6)
_YEARS = range(1970, 3000)


Kind = Literal["train", "val"]
Curve = Literal["loss", "accuracy"]
KINDS: tuple[Kind, ...] = ("train", "val")
CURVES: tuple[Curve, ...] = ("loss", "accuracy")


class _WholeRow(TypedDict):
    kind: Kind
    epoch: int
    time: str  # ISO 8601


class MetricsRow(_WholeRow, total=False):
    """A line of `metrics.jsonl`. `step` and `fold` are as the trainer wrote them."""

    step: object
    fold: object
    loss: float | None
    accuracy: float | None
    lr: float | None
    images_per_s: float | None
    macro_f1: float | None
    wait_share: float | None
    balanced_accuracy: float | None
    f_beta: float | None
    auc: float | None
    log_loss: float | None
    quadratic_kappa: float | None
    top_k: float | None


def parse_metrics(text: str) -> list[MetricsRow]:
    """Return the valid rows: those with kind, epoch and time, and with numbers where numbers are meant. Pure.

    Other lines are left out, and half a line at the end, which a run that still goes on may have.
    """
    return _rows(text)[0]


def metrics_at(folder: Path) -> tuple[list[MetricsRow], str]:
    """Return the rows of `metrics.jsonl` in `folder`, and what is wrong with that file: an empty text for nothing."""
    path = folder / METRICS
    try:
        content = read_regular(path, limit=LARGEST_RESULT_BYTES)
        size_bytes = path.stat().st_size if content is not None else 0
    except OSError as err:
        return [], f"{path} cannot be read: {err.strerror}"
    if content is None:
        return [], f"{path} is not a file" if path.exists() else ""
    rows, left_out = _rows(content.decode("utf-8", "replace"))
    if size_bytes > LARGEST_RESULT_BYTES:
        return rows, f"{path} is used up to {LARGEST_RESULT_BYTES / 1e6:g} MB: the rest is left out"
    return rows, f"{path}: {left_out} line(s) that are no row of a trainer's are left out" if left_out else ""


def _rows(text: str) -> tuple[list[MetricsRow], int]:
    """Return the rows, and how many lines are not rows; half a line at the end does not count."""
    rows, left_out = [], 0
    *lines, last = text.split("\n")
    for line in filter(None, map(str.strip, lines)):
        row = _row(line)
        if row is None:
            left_out += 1
        else:
            rows.append(row)
    row = _row(last)
    return [*rows, row] if row is not None else rows, left_out


def _row(line: str) -> MetricsRow | None:
    if not line.strip() or len(line) > _LONGEST_ROW:
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not _is_whole(row):
        return None
    used = {key: row[key] for key in _USED if key in row and (key not in _EXTRAS or _is_number(row[key]))}
    return cast("MetricsRow", used)


def _is_whole(row: dict[str, Any]) -> bool:
    epoch = row.get("epoch")
    if row.get("kind") not in KINDS or type(epoch) is not int or epoch not in _EPOCHS:
        return False
    if not all(row.get(key) is None or _is_number(row[key]) for key in _NUMBERS):
        return False
    try:
        moment = datetime.fromisoformat(str(row.get("time")))
    except ValueError:
        return False
    return moment.tzinfo is not None and moment.year in _YEARS


def _is_number(value: object) -> bool:
    """Return whether `value` is a finite number, small enough to compute with. NaN fails both comparisons."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST
