"""Where a run's files lie: one protocol, whatever holds the bytes.

RUN URI             held by
file:///folder      a directory (local runs)
node://machine/dir  the rented machine's own disk, over SkyPilot's SSH
s3://bucket/prefix  a bucket, of S3 or of whatever speaks its protocol at an `endpoint`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

OnBytes = Callable[[int, int], None]
"""Called with (bytes sent so far, bytes in all)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a run. `key` is its path below the run's folder, with `/`."""

    key: str
    size_bytes: int
    sha256: str


class Store(Protocol):
    """A run's folder. Raises StoreError where the bytes cannot be reached; absent keys are None."""

    def entries(self, prefix: str) -> list[Entry]:
        """Every file below `prefix`, hashed where it lies. Temporary files are left out."""
        ...

    def read(self, key: str, *, offset: int = 0) -> bytes | None:
        """The bytes of `key` from `offset` on; None where there is no such file."""
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
