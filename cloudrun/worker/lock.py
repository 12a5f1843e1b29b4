"""Locks on files: a process lives while its lock is held, and no reused process id can fake that.

Some file systems of clusters know no locks. There each is taken by whoever asks, and none is seen to be held.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def take(path: Path) -> int | None:
    """Take the lock on `path`; return its descriptor, or None where another process holds it. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    if _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
        return descriptor
    os.close(descriptor)
    return None


def share(descriptor: int) -> None:
    """Hold the lock on an open file together with others."""
    _lock(descriptor, fcntl.LOCK_SH)


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock on `path`."""
    try:
        with path.open() as file:
            return is_held_by_another(file.fileno())
    except FileNotFoundError:
        return False


def is_held_by_another(descriptor: int) -> bool:
    """Return whether a process holds the lock on an open file, whose name may be gone."""
    if not _lock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB):  # shared: two that ask don't see one another
        return True
    _lock(descriptor, fcntl.LOCK_UN)
    return False


def is_shared(path: Path) -> bool:
    """Return whether a process holds the lock on `path`, be it together with others."""
    try:
        descriptor = take(path)
    except OSError:
        return False
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def _lock(descriptor: int, how: int) -> bool:
    """Whether it was got."""
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    except OSError as err:
        if err.errno not in _NO_LOCKS:
            raise
    return True
