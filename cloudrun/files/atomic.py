"""Write files that are whole or absent: under a temporary name beside their place, then renamed.

Standard library, Python 3.10. A kill at any instant leaves the old file or the new one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED = ".tmp"
PARTIAL = ".partial"
TEMPORARY = (UNFINISHED, PARTIAL)
"""How the temporary names end. Code that lists a folder leaves out files of such names."""


def write(
    path: Path, content: bytes | str, *, temporary: Path | None = None, durable: bool = False, private: bool = False
) -> None:
    """Write `content` to `temporary` (by default `path` with `.tmp` added), then rename that file to `path`.

    `durable`: the bytes are on the disk before the file has its name. `private`: only its owner can read it (0600), as
    what holds values of `env` has to be. Raises OSError.
    """
    beside = temporary or path.with_name(path.name + UNFINISHED)
    try:
        with beside.open("wb") as file:
            if private:
                os.fchmod(file.fileno(), 0o600)
            file.write(content.encode() if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        settle(beside, path)
    except OSError as err:
        with suppress(OSError):
            beside.unlink(missing_ok=True)  # half of a file is of no use, and takes room
        if err.filename is None:  # the system names no file where a write fails
            raise OSError(err.errno, err.strerror, str(path)) from err
        raise


def settle(temporary: Path | str, path: Path | str, *, durable: bool = False) -> None:
    """Rename a finished file to `path`, and replace a file of that name. `durable`: its bytes are on the disk first."""
    if durable:
        sync(temporary)
    os.replace(temporary, path)  # noqa: PTH105 - a Path for each of 100,000 files takes as long as its rename


def sync(path: Path | str) -> None:
    """Flush a file's bytes to the disk; of a folder, the names in it."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def written(temporary: Path, content: bytes | memoryview) -> Iterator[Path]:
    """Write a new file durably, and remove it at the end unless it was renamed. Raises FileExistsError."""
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
