"""Where a run keeps its checkpoints: in its own folder, or in one for each of its folds. Names are relative to it."""

from __future__ import annotations

import re
from pathlib import Path

from cloudrun.protocol.outputs import BEST, CHECKPOINTS, LAST, METRICS, OUT_OF_FOLD, PREDICTIONS, SUMMARY

_BEST = re.compile(rf"(fold-\d+/)?{re.escape(BEST)}")
# What a run needs to go on, by the names that it was fetched under: nothing else of that folder is ours to send.
_TO_GO_ON = (CHECKPOINTS, METRICS, SUMMARY, PREDICTIONS, OUT_OF_FOLD, "fold-[0-9]*")


def is_best(name: str) -> bool:
    """Whether `name` is that of a best checkpoint."""
    return _BEST.fullmatch(name) is not None


def bests(folder: Path) -> list[Path]:
    """Every best checkpoint in `folder`."""
    found = [*folder.glob(BEST), *folder.glob(f"fold-*/{BEST}")]
    return sorted(path for path in found if path.is_file())


def can_go_on(folder: Path) -> bool:
    """Whether a run can go on from what lies in `folder`."""
    return any(path.is_file() for path in [*folder.glob(LAST), *folder.glob(f"fold-*/{LAST}")])


def to_go_on(folder: Path) -> list[Path]:
    """What a run needs to go on: files and folders."""
    return sorted(path for pattern in _TO_GO_ON for path in folder.glob(pattern))
