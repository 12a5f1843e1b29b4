"""A run's folder on this computer."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from cloudrun.errors import StoreError
from cloudrun.files import atomic
from cloudrun.files.untrusted import read_regular
from cloudrun.stores import Entry, OnBytes
from cloudrun.stores.listing import files_below, left_out_below
from cloudrun.stores.ranges import forget_ranges

_PIECE_BYTES = 1024 * 1024


class DirectoryStore:
    """Implements `Store` on a directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def entries(self, prefix: str) -> list[Entry]:
        found = []
        for path in sorted(files_below(self._folder / prefix)):
            if path.name.endswith(atomic.TEMPORARY):
                continue
            try:
                with path.open("rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                    size = file.tell()
            except (FileNotFoundError, PermissionError):
                continue  # replaced between the listing and the reading; or `left_out` names it
            except OSError as err:
                raise _cannot("read", path.relative_to(self._folder).as_posix(), err) from err
            found.append(Entry(path.relative_to(self._folder).as_posix(), size, sha256))
        return found

    def left_out(self, prefix: str) -> list[str]:
        found = left_out_below(self._folder / prefix)
        return sorted(f"{path.relative_to(self._folder).as_posix()} ({why})" for path, why in found)

    def is_there(self) -> bool:
        return self._folder.is_dir()

    def read(self, key: str, *, offset: int = 0, limit: int | None = None) -> bytes | None:
        try:
            return read_regular(self._folder / key, offset=offset, limit=limit)
        except OSError as err:
            raise _cannot("read", key, err) from err

    def size(self, key: str) -> int | None:
        path = self._folder / key
        try:
            return path.stat().st_size if path.is_file() else None
        except OSError as err:
            raise _cannot("read", key, err) from err

    def get(self, key: str, target: Path) -> None:
        forget_ranges(target)
        try:
            with (self._folder / key).open("rb") as source, target.open("ab") as copy:
                if copy.tell() > os.fstat(source.fileno()).st_size:  # too long to be the file's beginning
                    copy.truncate(0)
                source.seek(os.fstat(copy.fileno()).st_size)
                shutil.copyfileobj(source, copy, _PIECE_BYTES)
        except OSError as err:
            raise _cannot("copy", key, err) from err

    def put(self, key: str, content: bytes) -> None:
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            atomic.write(path, content)
        except OSError as err:
            raise _cannot("write", key, err) from err

    def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            (self._folder / key).unlink(missing_ok=True)

    def push(self, source: Path, prefix: str, on_bytes: OnBytes) -> None:
        """Copy a folder below `prefix`; a file whose bytes are there already is not copied again."""
        target = self._folder / prefix
        files = [path for path in source.rglob("*") if path.is_file()]
        total, sent = sum(path.stat().st_size for path in files), 0
        on_bytes(sent, total)
        for path in files:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not copy.exists() or copy.read_bytes() != path.read_bytes():
                partial = copy.with_name(copy.name + atomic.PARTIAL)
                shutil.copyfile(path, partial)
                atomic.settle(partial, copy)
            sent += path.stat().st_size
            on_bytes(sent, total)


def _cannot(verb: str, key: str, err: OSError) -> StoreError:
    if err.errno == errno.ENOSPC:
        return StoreError(
            f"cannot {verb} {key}: the disk is full", hint="free some space, then run the same command again"
        )
    return StoreError(f"cannot {verb} {key}: {err.strerror}", hint="run the same command again once that is fixed")
