"""A file that is filled in ranges, in any order, and the note beside it of those that it has."""

from __future__ import annotations

from pathlib import Path


def note_of(target: Path) -> Path:
    """The file beside `target` that tells which ranges of which version it has."""
    return target.with_name(target.name + ".ranges")


def forget_ranges(target: Path) -> None:
    """Before `target` is gone on with from its end: one that was filled in ranges has gaps, whatever its length."""
    note = note_of(target)
    if note.exists():
        target.unlink(missing_ok=True)
        note.unlink()
