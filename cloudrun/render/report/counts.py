"""How many images each class has in each split. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cloudrun.state.records import DataCheck

_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """Images of a class, a number for each split."""

    name: str
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CountsSection:
    """`largest`: the largest number of each split. `is_held_out`: a part of train validates, as there is no val."""

    splits: tuple[str, ...]
    classes: tuple[ClassCounts, ...]
    largest: tuple[int, ...]
    is_held_out: bool


def counts_section(data_check: DataCheck | None) -> CountsSection | None:
    """The classes with the fewest images of train last; None where the images were not counted."""
    counts = data_check.counts if data_check is not None else None
    if not counts:
        return None
    splits = tuple(
        sorted(counts, key=lambda split: (_SPLITS.index(split) if split in _SPLITS else len(_SPLITS), split))
    )
    names = sorted({name for classes in counts.values() for name in classes})
    rows = [ClassCounts(name, tuple(counts[split].get(name, 0) for split in splits)) for name in names]
    rows.sort(key=lambda row: (-row.counts[0], row.name))
    largest = tuple(max((row.counts[at] for row in rows), default=0) for at in range(len(splits)))
    return CountsSection(splits, tuple(rows), largest, is_held_out="val" not in counts)
