"""Files of a data set that are not used: counted by reason, with some names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudrun.imagedata.vocabulary import HEIC_SUFFIXES, suffix_of

_EXAMPLES = 5

HIDDEN = "hidden files and system files"
LITTER = "in a hidden folder or a system folder"
NO_SPLIT = "in a folder that is no split"
OUTSIDE = "outside of the class folders"
CIRCLE = "a link to a folder above itself"


@dataclass(frozen=True, slots=True)
class Unused:
    """How many files are left out for one reason, and the first of their names, relative to the data folder."""

    reason: str
    count: int
    examples: tuple[str, ...]

    def text(self) -> str:
        shown = ", ".join(self.examples[:3])
        return f"{self.count} {self.reason}: {shown}{', ...' if self.count > 3 else ''}"

    def as_plain(self) -> dict[str, Any]:
        return {"reason": self.reason, "count": self.count, "examples": list(self.examples)}


class Tally:
    """Count files by reason while a data set is read."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}
        self._tables: list[str] = []  # names of files that may hold labels

    def add(self, reason: str, names: Iterable[str]) -> None:
        holds_tables = reason in _OF_TABLES
        for name in names:
            if holds_tables:
                self._tables.append(name)
            self._counts[reason] = self._counts.get(reason, 0) + 1
            examples = self._examples.setdefault(reason, [])
            if len(examples) < _EXAMPLES:
                examples.append(printable(name))

    def forget(self, labels: Path, folder: Path) -> None:
        """Count the file of labels in `folder` no longer: it is used. `labels` may be a copy of it from elsewhere."""
        content = labels.read_bytes()
        for name in self._tables:
            path = folder / name
            if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
                self._forget_one(printable(name), no_image(suffix_of(name)))

    def _forget_one(self, name: str, reason: str) -> None:
        self._counts[reason] -= 1
        self._examples[reason] = [one for one in self._examples[reason] if one != name]
        if not self._counts[reason]:
            del self._counts[reason]

    def result(self) -> tuple[Unused, ...]:
        """The reasons, those with most files first."""
        order = sorted(self._counts, key=lambda reason: (-self._counts[reason], reason))
        return tuple(Unused(reason, self._counts[reason], tuple(sorted(self._examples[reason]))) for reason in order)


def left_out_text(tally: Tally) -> str:
    """Return what to add to a message that images are missing: the files that are there, by reason."""
    found = tally.result()
    return f"; not used: {'; '.join(one.text() for one in found[:3])}" if found else ""


def no_image(suffix: str) -> str:
    """Return the reason for files that are not images by their suffix, or by their content where they have none."""
    if suffix in HEIC_SUFFIXES:
        return f"HEIC images ({suffix}), which are read where `pip install pillow-heif` was run"
    return f"not images ({suffix or 'no suffix'})"


_OF_TABLES = frozenset(map(no_image, (".csv", ".tsv", ".json", ".jsonl", ".txt")))


def printable(name: str) -> str:
    """Return `name` with bytes that are not UTF-8, and control characters, written as escapes."""
    if name.isascii() and name.isprintable():
        return name
    whole = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in whole)
