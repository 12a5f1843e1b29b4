"""Under which name a run's file comes home: its own, unless that is taken, or can be no name here. Pure."""

from __future__ import annotations

import os

from cloudrun.files.atomic import PARTIAL
from cloudrun.protocol.outputs import (
    MADE_AT_HOME,
    METRICS,
    OUT_OF_FOLD,
    PREDICTIONS,
    PREDICTIONS_VAL,
    PROGRESS,
    SUMMARY,
    UNREADABLE_RESULT,
    below_out,
)
from cloudrun.protocol.run_folder import OUT
from cloudrun.text.names import RENAMED, renamed

# What others read by its name, and what is written beside it: a folder of that name would be in the way.
_OURS = (
    *MADE_AT_HOME, *(f"{name}{PARTIAL}" for name in MADE_AT_HOME), UNREADABLE_RESULT,
    SUMMARY, METRICS, PROGRESS, PREDICTIONS, PREDICTIONS_VAL, OUT_OF_FOLD,
)  # fmt: skip
# Folders of cloudrun's own at home: what has such a name of its own keeps its whole key.
_FOLDERS = (OUT, RENAMED)
_LONGEST_PART = 255
_LONGEST_PATH = 1000
_DEEPEST = 64


def name_at_home(key: str) -> str:
    """`out/checkpoints/best.pt` -> `checkpoints/best.pt`. No two keys have one name.

    A file that has the name of one that is made at home, or a folder that has the name of a file of ours, stays below
    `out/`. What is too long or too deep for a file system, or would leave the folder, is `renamed/HASH-NAME`.
    """
    name = below_out(key)
    parts = name.split("/")
    if not _is_possible(parts):
        return renamed(key)
    is_taken = name in MADE_AT_HOME if len(parts) == 1 else parts[0] in (*_OURS, *_FOLDERS)
    return key if is_taken else name


def is_renamed(key: str) -> bool:
    """Whether a file has lost its name, so that somebody has to be told."""
    return name_at_home(key).startswith(f"{RENAMED}/") and not key.startswith(f"{RENAMED}/")


def _is_possible(parts: list[str]) -> bool:
    sizes = [len(os.fsencode(part)) for part in parts]
    if len(parts) > _DEEPEST or max(sizes) > _LONGEST_PART or sum(sizes) + len(sizes) > _LONGEST_PATH:
        return False
    return not any(part in ("", ".", "..") or "\0" in part for part in parts)
