"""Where a run keeps its checkpoints: in its own folder, or in one for each of its folds. Names are relative to it."""

from __future__ import annotations

import re
from pathlib import Path

_BEST = re.compile(r"(fold-\d+/)?checkpoints/best\.pt")
# What a run needs to go on, by the names that it was fetched under: nothing else of that folder is ours to send.
_TO_GO_ON = ("checkpoints", "metrics.jsonl", "summary.json", "predictions.csv", "oof.csv", "fold-[0-9]*")


def is_best(name: str) -> bool:
    """Whether `name` is that of a best checkpoint."""
    return _BEST.fullmatch(name) is not None


def bests(folder: Path) -> list[Path]:
    """Every best checkpoint in `folder`."""
    found = [*folder.glob("checkpoints/best.pt"), *folder.glob("fold-*/checkpoints/best.pt")]
    return sorted(path for path in found if path.is_file())


def can_go_on(folder: Path) -> bool:
    """Whether a run can go on from what lies in `folder`."""
    return any(
        path.is_file() for path in [*folder.glob("checkpoints/last.pt"), *folder.glob("fold-*/checkpoints/last.pt")]
    )


def to_go_on(folder: Path) -> list[Path]:
    """What a run needs to go on: files and folders."""
    return sorted(path for pattern in _TO_GO_ON for path in folder.glob(pattern))
