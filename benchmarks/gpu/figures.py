"""Append each figure to a file the moment it is known, and make a table of the figures.

A part may be killed at any instant: the figures that it had measured by then are in the file, a line of JSON each.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.gpu.predictions import predicted_for

FIGURES = "figures.jsonl"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement. `limit` is the largest value that is right; None: any value is right."""

    part: str
    name: str
    value: float | None
    unit: str = ""
    limit: float | None = None
    note: str = ""
    card: str = ""
    at_s: float = 0.0

    @property
    def is_wrong(self) -> bool:
        """Whether there is a limit, and the value is over it, is not a number, or could not be had."""
        if self.limit is None:
            return False
        return self.value is None or not self.value <= self.limit


class Figures:
    """Appends figures of one part to `out`/figures.jsonl, flushed to the disk, and prints each."""

    def __init__(self, out: Path, *, part: str, card: str = "") -> None:
        self._path, self._part, self.card = out / FIGURES, part, card
        self._began = time.monotonic()
        self.wrong = 0

    def add(
        self, name: str, value: float | None, unit: str = "", *, limit: float | None = None, note: str = ""
    ) -> Figure:
        """Write a figure. `value` is None where it could not be had, and `note` says why."""
        at_s = round(time.monotonic() - self._began, 2)
        figure = Figure(self._part, name, value, unit, limit, note, self.card, at_s)
        self.wrong += figure.is_wrong
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(figure), allow_nan=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(line_of(figure), flush=True)
        return figure


def read_figures(out: Path) -> list[Figure]:
    """Return all whole lines of `out`/figures.jsonl; a last line that was cut off in the middle is left out."""
    return list(_whole_lines(out / FIGURES))


def _whole_lines(path: Path) -> Iterator[Figure]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield Figure(**json.loads(line))
        except (json.JSONDecodeError, TypeError):
            continue


def line_of(figure: Figure) -> str:
    """Return `smoke   [24 s] mixup: 0.0021 (at most 0.01)`."""
    verdict = ""
    if figure.limit is not None:
        verdict = f" (at most {figure.limit:g}{': WRONG' if figure.is_wrong else ''})"
    note = f"  {figure.note}" if figure.note else ""
    return f"{figure.part:<8}[{figure.at_s:.0f} s] {figure.name}: {_shown(figure)}{verdict}{note}"


def table(figures: Sequence[Figure], *, heading: str) -> str:
    """Return a Markdown table with the prediction beside each measurement, the card's name above it."""
    cards = sorted({one.card for one in figures if one.card})
    lines = [
        f"{', '.join(cards) or 'no GPU'}; {heading}",
        "",
        "| part | figure | measured | predicted | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in figures:
        measured = _shown(one) + (f" ({one.note})" if one.note else "")
        lines.append(f"| {one.part} | {one.name} | {_escaped(measured)} | {_predicted_text(one)} | {_mark(one)} |")
    wrong = [one for one in figures if one.is_wrong]
    lines += ["", f"{len(figures)} figures, {len(wrong)} wrong{''.join(f'; {one.part}: {one.name}' for one in wrong)}"]
    return "\n".join(lines) + "\n"


def _predicted_text(figure: Figure) -> str:
    if figure.limit is not None:
        return f"at most {figure.limit:g}"
    predicted = predicted_for(figure.part, figure.name, card=figure.card)
    return "" if predicted is None else f"{predicted[0]:g} to {predicted[1]:g}"


def _mark(figure: Figure) -> str:
    if figure.limit is not None:
        return "**wrong**" if figure.is_wrong else "right"
    predicted = predicted_for(figure.part, figure.name, card=figure.card)
    if predicted is None or figure.value is None:
        return ""
    low, high = predicted
    if low <= figure.value <= high:
        return "as predicted"
    return "below" if figure.value < low else "above"


def _shown(figure: Figure) -> str:
    if figure.value is None:
        return "not measured"
    if not math.isfinite(figure.value):
        return str(figure.value)
    unit = f" {figure.unit}" if figure.unit else ""
    return f"{figure.value:.4g}{unit}" if abs(figure.value) < 1000 else f"{figure.value:,.0f}{unit}"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
