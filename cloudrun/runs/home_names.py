"""Choose the name that a run's file gets at home: its own, unless that is taken or not possible there. Pure."""

from __future__ import annotations

import os

from cloudrun.files.atomic import PARTIAL
from cloudrun.protocol.outputs import (
    MACHINE,
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

# Files that other code reads by name, and their temporary files: a folder of such a name would be in the way.
_OURS = (
    *MADE_AT_HOME, *(f"{name}{PARTIAL}" for name in MADE_AT_HOME), UNREADABLE_RESULT,
    SUMMARY, METRICS, MACHINE, PROGRESS, PREDICTIONS, PREDICTIONS_VAL, OUT_OF_FOLD,
)  # fmt: skip
# Folders that cloudrun itself makes at home: a run's file in a folder of such a name keeps its whole key as its name.
_FOLDERS = (OUT, RENAMED)
_LONGEST_PART = 255
_LONGEST_PATH = 1000
_DEEPEST = 64


def name_at_home(key: str) -> str:
    """Return the name at home of a key: `out/checkpoints/best.pt` -> `checkpoints/best.pt`. It is unique for each key.

    A file with the name of one that is made at home stays below `out/`, and so does a folder with the name of a file of
    ours. A name that is too long or too deep for a file system, or would leave the folder, becomes `renamed/HASH-NAME`.
    """
    name = below_out(key)
    parts = name.split("/")
    if not _is_possible(parts):
        return renamed(key)
    is_taken = name in MADE_AT_HOME if len(parts) == 1 else parts[0] in (*_OURS, *_FOLDERS)
    return key if is_taken else name


def is_renamed(key: str) -> bool:
    """Return whether a file lost its name at home, so that the user has to be told."""
    return name_at_home(key).startswith(f"{RENAMED}/") and not key.startswith(f"{RENAMED}/")


def _is_possible(parts: list[str]) -> bool:
    sizes = [len(os.fsencode(part)) for part in parts]
    if len(parts) > _DEEPEST or max(sizes) > _LONGEST_PART or sum(sizes) + len(sizes) > _LONGEST_PATH:
        return False
    return not any(part in ("", ".", "..") or "\0" in part for part in parts)
