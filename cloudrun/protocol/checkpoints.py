"""Find a run's checkpoints: in the folder of its results, or in a folder a fold. Names are relative to that folder."""

from __future__ import annotations

import re
from pathlib import Path

from cloudrun.protocol.outputs import BEST, CHECKPOINTS, LAST, MACHINE, METRICS, OUT_OF_FOLD, PREDICTIONS, SUMMARY

_BEST = re.compile(rf"(fold-\d+/)?{re.escape(BEST)}")
# The files that a run needs to go on, by the names under which they were fetched. No other file of that folder is sent.
_TO_GO_ON = (CHECKPOINTS, METRICS, MACHINE, SUMMARY, PREDICTIONS, OUT_OF_FOLD, "fold-[0-9]*")


def is_best(name: str) -> bool:
    """Return whether `name` is that of a best checkpoint."""
    return _BEST.fullmatch(name) is not None


def bests(folder: Path) -> list[Path]:
    """Return the path of every best checkpoint in `folder`."""
    found = [*folder.glob(BEST), *folder.glob(f"fold-*/{BEST}")]
    return sorted(path for path in found if path.is_file())


def can_go_on(folder: Path) -> bool:
    """Return whether `folder` has a last checkpoint, from which a run can go on."""
    return any(path.is_file() for path in [*folder.glob(LAST), *folder.glob(f"fold-*/{LAST}")])


def to_go_on(folder: Path) -> list[Path]:
    """Return the files and folders in `folder` that a run needs to go on."""
    return sorted(path for pattern in _TO_GO_ON for path in folder.glob(pattern))
