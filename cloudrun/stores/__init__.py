"""Where a run's files lie: one protocol, whatever holds the bytes.

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
        """Every file below `prefix`, hashed where it lies. Temporary files are left out, and what `left_out` names."""
        ...

    def left_out(self, prefix: str) -> list[str]:
        """What lies below `prefix` and cannot be copied, as `NAME (why)`: pipes, lost links, what cannot be read."""
        ...

    def is_there(self) -> bool:
        """Whether the run's folder itself is there; a bucket has none that could be removed."""
        ...

    def read(self, key: str, *, offset: int = 0, limit: int | None = None) -> bytes | None:
        """At most `limit` bytes of `key` from `offset` on; None where there is no such file, or something else."""
        ...

    def size(self, key: str) -> int | None:
        """The bytes that `key` has now, without reading it; None as for `read`."""
        ...

    def get(self, key: str, target: Path) -> None:
        """Copy one file to `target`, which may hold the start of it already."""
        ...

    def put(self, key: str, content: bytes) -> None:
        """Write one small file, whole or not at all."""
        ...

    def remove(self, keys: Sequence[str]) -> None:
        """Delete these files; those that are not there do not matter."""
        ...

    def push(self, source: Path, prefix: str, on_bytes: OnBytes) -> None:
        """Copy a folder below `prefix`; what is there already and equal is not sent again."""
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
        """Store a new object, whole or not at all; False, and nothing is changed, where the key is taken.

        `sha256` of the content, where it is known already, saves computing it.
        """
        ...

    def read_tagged(self, key: str) -> tuple[bytes, str] | None:
        """The content and its version's tag; None where there is no such object."""
        ...

    def swap(self, key: str, content: bytes, tag: str | None) -> bool:
        """Replace the version `tag` (None: no object); False where another one is there by now."""
        ...

    def read_range(self, key: str, offset: int, length: int) -> Iterator[memoryview]:
        """The bytes in pieces as they come, each good until the next one. Fewer than asked for is an error."""
        ...

    def listed(self, prefix: str) -> list[Listed]:
        """Every object whose key starts with `prefix`, in the order of the keys."""
        ...

    def remove(self, keys: Sequence[str]) -> None:
        """Delete these objects; those that are not there do not matter."""
        ...

    def clear_unfinished(self, before: float) -> int:
        """Remove what writes that never ended have left, begun before `before` (Unix time); returns how many.

        Such parts are in no listing, and are billed.
        """
        ...


def open_objects(uri: str, *, endpoint: str | None = None) -> Objects:
    """The objects below `uri`: `s3://BUCKET/PREFIX`, `file:///FOLDER` or a folder's path."""
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
    """The store behind `uri`; `endpoint` is the server of an `s3://` one, where it is not AWS."""
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
