"""Lock files: a process lives while its lock is held, and no reused process id can fake that.

Standard library, Python 3.10. Some file systems of clusters have no locks. There every process that asks gets the lock,
and no lock is seen to be held, unless the caller says that the lock is `required`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_LOOK_EVERY_S = 0.05


def take(path: Path, *, required: bool = False, within_s: float = 0.0) -> int | None:
    """Take the lock on `path`; return its descriptor, or None where another process holds it for `within_s` seconds.

    Raises OSError, also where the lock is `required` and the file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    until = time.monotonic() + within_s
    try:
        while not _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, required=required):
            if time.monotonic() >= until:
                os.close(descriptor)
                return None
            time.sleep(_LOOK_EVERY_S)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Wait for the lock on `path`, and hold it while the `with` block runs.

    The file stays: a file that is removed could be locked twice. Raises OSError, also where the file system has no
    locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _lock(descriptor, fcntl.LOCK_EX, required=True)
        yield
    finally:
        os.close(descriptor)


def is_taken(descriptor: int) -> bool:
    """Take the lock on an open file, and return whether that was possible. Raises OSError."""
    return _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, required=True)


def share(descriptor: int) -> None:
    """Hold the lock on an open file together with other processes; wait while one holds it alone."""
    _lock(descriptor, fcntl.LOCK_SH)


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock on `path`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # else a pipe would block
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return is_held_by_another(descriptor)
    finally:
        os.close(descriptor)


def is_held_by_another(descriptor: int) -> bool:
    """Return whether a process holds the lock on an open file, whose name may be gone."""
    if not _lock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB):  # shared: two that ask don't see one another
        return True
    _lock(descriptor, fcntl.LOCK_UN)
    return False


def is_shared(path: Path) -> bool:
    """Return whether a process holds the lock on `path`, alone or together with others."""
    try:
        descriptor = take(path)
    except OSError:
        return False
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def _lock(descriptor: int, how: int, *, required: bool = False) -> bool:
    """Return whether the lock was taken; False where another process holds it."""
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    except OSError as err:
        if required or err.errno not in _NO_LOCKS:
            raise
    return True
