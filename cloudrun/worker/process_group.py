"""A command and all that it has started, as one group: whether any of it lives, and signals to all of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def signal_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # all of it has ended
        os.killpg(group, number)


def group_lives(group: int) -> bool:
    """Whether one of its processes runs. One that has ended and that nobody reaps, as in a container, does not."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return not _PROC.is_dir() or any(_lives_in(group, stat) for stat in _PROC.glob("[0-9]*/stat"))


def wait_until_gone(group: int, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Until all of it has ended, at most `seconds`; `meanwhile` is called ten times a second."""
    until = time.monotonic() + seconds
    while group_lives(group) and time.monotonic() < until:
        meanwhile()
        time.sleep(0.1)


def _lives_in(group: int, stat: Path) -> bool:
    """Of proc(5)'s `pid (name) state ppid pgrp ...`, where the name may hold anything."""
    try:
        state, _, pgrp = stat.read_text(errors="replace").rpartition(") ")[2].split()[:3]
    except (OSError, ValueError):
        return False  # it has just ended
    return int(pgrp) == group and state not in "ZX"
