"""Keep whole objects in a folder, of this computer or of a file server that several computers share."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cloudrun.errors import StoreError
from cloudrun.files import atomic, locks
from cloudrun.stores import Listed

_PIECE_BYTES = 1 << 18


class DirectoryObjects:
    """Implements `Objects` on a directory: a key is a path below it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, key: str, content: bytes | memoryview, *, sha256: str | None = None) -> bool:
        path = self._folder / key
        with _explained("write", key), self._written(path, content) as temporary:
            try:
                os.link(temporary, path)  # unlike a rename, it fails where the name is taken
            except FileExistsError:
                return False
        return True

    def read_tagged(self, key: str) -> tuple[bytes, str] | None:
        with _explained("read", key):
            try:
                content = (self._folder / key).read_bytes()
            except FileNotFoundError:
                return None
        return content, _tag(content)

    def swap(self, key: str, content: bytes, tag: str | None) -> bool:
        path = self._folder / key
        with _explained("write", key), self._locked(path):
            there = self.read_tagged(key)
            if (there[1] if there else None) != tag:
                return False
            with self._written(path, content) as temporary:
                atomic.settle(temporary, path)
        return True

    def read_range(self, key: str, offset: int, length: int) -> Iterator[memoryview]:
        with _explained("read", key), (self._folder / key).open("rb") as file:
            file.seek(offset)
            left = length
            while left > 0:
                piece = file.read(min(left, _PIECE_BYTES))
                if not piece:
                    raise StoreError(
                        f"{key} is shorter than it should be", hint="it is damaged: push the data set again"
                    )
                left -= len(piece)
                yield memoryview(piece)

    def listed(self, prefix: str) -> list[Listed]:
        found = []
        above = self._folder / prefix.rpartition("/")[0]
        with _explained("list", prefix):
            for folder, _, names in os.walk(above):
                for name in names:
                    path = Path(folder, name)
                    key = path.relative_to(self._folder).as_posix()
                    if not key.startswith(prefix) or name.startswith(".") or name.endswith(atomic.UNFINISHED):
                        continue
                    with suppress(FileNotFoundError):  # removed since it was listed
                        stat = path.stat()
                        found.append(Listed(key, stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda one: one.key)

    def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            with _explained("remove", key):
                (self._folder / key).unlink(missing_ok=True)

    def clear_unfinished(self, before: float) -> int:
        left = []
        for path in self._folder.rglob(f".*{atomic.UNFINISHED}"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()
                    left.append(path)
        return len(left)

    @contextmanager
    def _written(self, path: Path, content: bytes | memoryview) -> Iterator[Path]:
        """Write a temporary file of this content beside `path`; it is removed at the end, unless it was renamed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{atomic.UNFINISHED}")
        with atomic.written(temporary, content):
            yield temporary

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locks.holding(path.with_name(f".{path.name}.lock")):
            yield


def _tag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def _explained(verb: str, key: str) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        if err.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"cannot {verb} {key}: the disk is full", hint="free some space, then run the same command again"
            ) from err
        raise StoreError(
            f"cannot {verb} {key}: {err.strerror}", hint="run the same command again once that is fixed"
        ) from err
