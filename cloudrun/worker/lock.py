"""Locks on files: a process lives while its lock is held, and no reused process id can fake that."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def take(path: Path) -> int | None:
    """Take the lock on `path`; return its descriptor, or None where another process holds it. Raises OSError."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError:
        os.close(lock)
        raise
    return lock


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock on `path`."""
    try:
        with path.open() as file:
            return is_held_by_another(file.fileno())
    except FileNotFoundError:
        return False


def is_held_by_another(descriptor: int) -> bool:
    """Return whether a process holds the lock on an open file, whose name may be gone."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that ask don't see one another
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def share(descriptor: int) -> None:
    """Hold a lock together with others on an open file."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def is_shared(path: Path) -> bool:
    """Return whether a process holds the lock on `path`, be it together with others."""
    try:
        held = take(path)
    except OSError:
        return False
    if held is None:
        return True
    os.close(held)
    return False
