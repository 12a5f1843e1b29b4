"""Read and write a run's files by one protocol, whatever holds the bytes.

RUN URI             held by
file:///folder      a directory (local runs)
node://machine/dir  the rented machine's own disk, over SkyPilot's SSH
s3://bucket/prefix  a bucket, of S3 or of whatever speaks its protocol at an `endpoint`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from cloudrun.errors import UsageError

OnBytes = Callable[[int, int], None]
"""Called with (bytes sent so far, bytes in all)."""

OnFiles = Callable[[int, int, tuple[int, int]], None]
"""Called with (bytes so far, bytes in all, (files so far, files in all))."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a run. `key` is its path below the run's folder, with `/`."""

    key: str
    size_bytes: int
    sha256: str


class Store(Protocol):
    """A run's folder. Raises StoreError where the bytes cannot be reached; absent keys are None."""

    def entries(self, prefix: str) -> list[Entry]:
        """Return every file below `prefix`, hashed where it lies; without temporary files and those of `left_out`."""
        ...

    def left_out(self, prefix: str) -> list[str]:
        """Return what is below `prefix` and cannot be copied, as `NAME (why)`: pipes, lost links, unreadable files."""
        ...

    def is_there(self) -> bool:
        """Return whether the run's folder exists; always True for a bucket, which has no folder to remove."""
        ...

    def read(self, key: str, *, offset: int = 0, limit: int | None = None) -> bytes | None:
        """Return at most `limit` bytes of `key` from `offset` on; None where `key` is not there, or is not a file."""
        ...

    def size(self, key: str) -> int | None:
        """Return the size in bytes that `key` has now, without reading it; None as for `read`."""
        ...

    def get(self, key: str, target: Path) -> None:
        """Copy one file to `target`, which may hold the file's beginning already."""
        ...

    def put(self, key: str, content: bytes) -> None:
        """Write one small file, whole or not at all."""
        ...

    def remove(self, keys: Sequence[str]) -> None:
        """Delete these files. A file that is not there is no error."""
        ...

    def push(self, source: Path, prefix: str, on_bytes: OnBytes) -> None:
        """Copy a folder below `prefix`; a file that is there already and equal is not sent again."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a listing; `modified_at` is Unix time by the store's own clock."""

    key: str
    size_bytes: int
    modified_at: float


class Objects(Protocol):
    """A store of whole objects that several computers write to at once. May be used from several threads.

    Raises StoreError where the store cannot be reached or refuses.
    """

    def create(self, key: str, content: bytes | memoryview, *, sha256: str | None = None) -> bool:
        """Store a new object, whole or not at all. Returns False, and changes nothing, where the key is taken.

        `sha256` is the content's hash in hex; None has it computed here.
        """
        ...

    def read_tagged(self, key: str) -> tuple[bytes, str] | None:
        """Return the content and its version's tag; None where there is no such object."""
        ...

    def swap(self, key: str, content: bytes, tag: str | None) -> bool:
        """Replace the version `tag` (None: no object). Returns False where another version is there by now."""
        ...

    def read_range(self, key: str, offset: int, length: int) -> Iterator[memoryview]:
        """Yield the bytes in pieces as they come, each valid until the next. Raises StoreError for a shorter object."""
        ...

    def listed(self, prefix: str) -> list[Listed]:
        """Return every object whose key starts with `prefix`, in the order of the keys."""
        ...

    def remove(self, keys: Sequence[str]) -> None:
        """Delete these objects. An object that is not there is no error."""
        ...

    def clear_unfinished(self, before: float) -> int:
        """Remove the parts of writes that began before `before` (Unix time) and never ended; return how many writes.

        Such parts are in no listing, and are billed.
        """
        ...


def open_objects(uri: str, *, endpoint: str | None = None) -> Objects:
    """Return the objects below `uri`: `s3://BUCKET/PREFIX`, `file:///FOLDER` or a folder's path.

    `endpoint` is the server of an `s3://` store, None for AWS. Raises UsageError for another kind of URI.
    """
    parts = urlsplit(uri)
    match parts.scheme:
        case "s3":
            from cloudrun.stores.s3_objects import S3Objects

            return S3Objects(uri, endpoint)
        case "file" | "":
            from cloudrun.stores.directory_objects import DirectoryObjects

            return DirectoryObjects(Path(unquote(parts.path)))
        case _:
            raise UsageError(f"`{uri}` is not a store", hint="write s3://BUCKET/PREFIX, or a folder")


def open_store(uri: str, *, endpoint: str | None = None) -> Store:
    """Return the store behind `uri`; `endpoint` is the server of an `s3://` store, None for AWS."""
    parts = urlsplit(uri)
    match parts.scheme:
        case "file":
            from cloudrun.stores.directory import DirectoryStore

            return DirectoryStore(Path(unquote(parts.path)))
        case "node":
            from cloudrun.stores.node import NodeStore

            return NodeStore(parts.netloc, unquote(parts.path).lstrip("/"))
        case "s3":
            from cloudrun.stores.s3 import S3Store

            return S3Store(uri, endpoint)
        case _:
            raise ValueError(f"no store for {uri}")
