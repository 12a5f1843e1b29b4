"""Allow one fetch at a time into one folder: a second one waits. A fetch that is killed frees the lock."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from cloudrun.errors import StoreError
from cloudrun.files import locks

# A fetch that holds the lock and brings nothing for so long is stopped or stuck: a bill must not wait for it.
_STUCK_S = 120.0

Beat = Callable[[], None]


@contextmanager
def fetching(folder: Path, *, home: Path, say: Callable[[str], None], stuck_s: float = _STUCK_S) -> Iterator[Beat]:
    """Lock `folder` for this fetch, and yield a function to call whenever bytes have arrived.

    The lock file is in `home`, the ledger's folder, and not among the results. Raises StoreError where another fetch
    holds the lock and has brought nothing for `stuck_s` seconds.
    """
    path = home / "fetching" / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        if not locks.is_taken(lock.fileno()):
            say(f"another command fetches to {folder}: waiting for it ...")
            _wait(lock, path, folder, stuck_s)
        with suppress(OSError):  # its number is for a person; a full disk is met later, and named
            os.truncate(lock.fileno(), 0)
            os.write(lock.fileno(), str(os.getpid()).encode())
        yield lambda: os.utime(path)


def _wait(lock: IO[str], path: Path, folder: Path, stuck_s: float) -> None:
    while not locks.is_taken(lock.fileno()):
        if time.time() - path.stat().st_mtime > stuck_s:
            holder = path.read_text() or "unknown"
            raise StoreError(
                f"another command (process {holder}) fetches to {folder}, and has brought nothing for {stuck_s:.0f} s",
                hint=f"end it, then run the same command again: `kill {holder}`",
            )
        time.sleep(0.1)
