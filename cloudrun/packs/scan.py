"""Find the files of a folder, and read them so that a write to a file meanwhile is noticed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cloudrun.errors import StoreError
from cloudrun.packs.index import Seen
from cloudrun.retry import tries

_PAUSES_S = (0.1, 0.1, 0.1)
# A file as young as this may change again without a change of its date: its hash is not kept for later.
_YOUNG_NS = 2_000_000_000
_Identity = tuple[int, int]


class Found(NamedTuple):
    """A file of a walk. `path` is relative to the folder, with `/`; `size` in bytes."""

    path: str
    size: int
    mtime_ns: int
    inode: int


def walk(folder: Path) -> list[Found]:
    """Return every file below `folder`, links followed, in the order of the paths.

    Raises StoreError for what cannot be sent: a link that leads nowhere, a name that is not UTF-8, a link to a folder
    above it.
    """
    found: list[Found] = []
    pending: list[tuple[str, str, tuple[_Identity, ...]]] = [(str(folder), "", (_identity(folder.stat()),))]
    while pending:
        place, prefix, above = pending.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    path = prefix + entry.name
                    there = entry.stat()
                    if stat.S_ISREG(there.st_mode):
                        found.append(Found(path, there.st_size, there.st_mtime_ns, there.st_ino))
                    elif stat.S_ISDIR(there.st_mode):
                        if entry.is_symlink() and _identity(there) in above:
                            raise StoreError(f"{entry.path} is a link to a folder that it lies in", hint="remove it")
                        pending.append((entry.path, f"{path}/", (*above, _identity(there))))
        except OSError as err:
            raise StoreError(f"cannot read {err.filename or place}: {err.strerror}", hint="fix or remove it") from err
    for one in found:
        try:
            one.path.encode()
        except UnicodeEncodeError:
            raise StoreError(f"{folder}/{one.path!r} has a name that is not UTF-8", hint="rename it") from None
    return sorted(found)


def split_known(found: list[Found], known: Mapping[str, Seen]) -> tuple[dict[str, Seen], list[Found]]:
    """Return (path -> file for those unchanged since they were hashed, the files that have to be read)."""
    same: dict[str, Seen] = {}
    fresh = []
    for one in found:
        seen = known.get(one.path)
        if seen is not None and seen[:4] == one:
            same[one.path] = seen
        else:
            fresh.append(one)
    return same, fresh


def is_settled(mtime_ns: int) -> bool:
    """Return whether a later change of a file with this date is sure to change the date."""
    return time.time_ns() - mtime_ns > _YOUNG_NS


def read_whole(path: Path) -> tuple[bytes, os.stat_result]:
    """Return the content of a file at one moment, and its stat. Raises StoreError where each try sees it change."""
    for _ in tries(_PAUSES_S):
        with opened(path) as file:
            before = os.fstat(file.fileno())
            content = file.read(before.st_size + 1)
            if not differs(before, file) and len(content) == before.st_size:
                return content, before
    raise changing(path)


def read_pieces(path: Path, piece_bytes: int) -> Iterator[bytes]:
    """Yield a large file piece by piece. Raises StoreError at the end where it was written to meanwhile."""
    with opened(path) as file:
        before = os.fstat(file.fileno())
        left = before.st_size
        while left > 0:
            piece = file.read(min(left, piece_bytes))
            if not piece:
                raise changing(path)
            left -= len(piece)
            if not left and (differs(before, file) or file.read(1)):
                raise changing(path)
            yield piece


def opened(path: Path) -> BinaryIO:
    """Open a file to read it. Raises StoreError where that is not possible."""
    try:
        return path.open("rb", buffering=0)  # reads of whole files need no buffer
    except OSError as err:
        raise StoreError(f"cannot read {path}: {err.strerror}", hint="fix it, or move it out of the folder") from err


def differs(before: os.stat_result, file: BinaryIO) -> bool:
    """Return whether the file's size or date has changed since `before`."""
    now = os.fstat(file.fileno())
    return (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns)


def changing(path: Path) -> StoreError:
    """Return the error for a file that is written to while it is read."""
    return StoreError(
        f"{path} is written to while it is read", hint="wait until it is whole, then run the same command again"
    )


def _identity(there: os.stat_result) -> _Identity:
    return there.st_dev, there.st_ino
