"""Keep a note beside a file that is filled in ranges, in any order, of the ranges that it has."""

from __future__ import annotations

from pathlib import Path


def note_of(target: Path) -> Path:
    """Return the path of the note beside `target` that tells which ranges of which version `target` has."""
    return target.with_name(target.name + ".ranges")


def forget_ranges(target: Path) -> None:
    """Remove `target` and its note, where `target` was filled in ranges.

    To be called before `target` is continued from its end: a file that was filled in ranges has gaps, whatever its
    length.
    """
    note = note_of(target)
    if note.exists():
        target.unlink(missing_ok=True)
        note.unlink()
