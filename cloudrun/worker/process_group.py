"""Send signals to a command and all that it has started, as one process group; tell whether any of the group lives."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def signal_group(group: int, number: int) -> None:
    """Send signal `number` to each process of the group; nothing happens where all have ended."""
    with suppress(ProcessLookupError, PermissionError):  # all have ended
        os.killpg(group, number)


def group_lives(group: int) -> bool:
    """Return whether a process of the group runs.

    A process that has ended and is not reaped (a zombie, as happens in a container) does not count.
    """
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return not _PROC.is_dir() or any(_lives_in(group, stat) for stat in _PROC.glob("[0-9]*/stat"))


def wait_until_gone(group: int, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Wait until all of the group has ended, at most `seconds`; `meanwhile` is called ten times a second."""
    until = time.monotonic() + seconds
    while group_lives(group) and time.monotonic() < until:
        meanwhile()
        time.sleep(0.1)


def _lives_in(group: int, stat: Path) -> bool:
    """Return whether the process of a `/proc/PID/stat` file belongs to the group and runs.

    The file reads `pid (name) state ppid pgrp ...`, where the name may hold anything. Source: proc(5).
    """
    try:
        state, _, pgrp = stat.read_text(errors="replace").rpartition(") ")[2].split()[:3]
    except (OSError, ValueError):
        return False  # the process has just ended
    return int(pgrp) == group and state not in "ZX"
