"""List the files of a data set, each with its hash and where its bytes lie. Pure.

A manifest is immutable: it is stored under the sha256 of its own bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from cloudrun.errors import StoreError

_FORMAT = "cloudrun-packs"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Extent:
    """A stretch of one pack, in bytes, with the sha256 of its content."""

    pack: str
    offset: int
    length: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file of a data set. `path` is relative, with `/`. The file's content is its extents, one after another."""

    path: str
    size_bytes: int
    sha256: str
    extents: tuple[Extent, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a data set, in the order of their paths."""

    files: tuple[FileRecord, ...]

    @property
    def size_bytes(self) -> int:
        return sum(one.size_bytes for one in self.files)

    @property
    def tree(self) -> str:
        """The hash of the folder's content: see `tree_of`."""
        return tree_of((one.path, one.size_bytes, one.sha256) for one in self.files)

    def packs(self) -> set[str]:
        """Return the ids of all packs that the data set needs."""
        return {extent.pack for one in self.files for extent in one.extents}

    def encode(self) -> tuple[str, bytes]:
        """Return (the manifest's id, its bytes)."""
        numbers: dict[str, int] = {}
        lines = []
        for one in self.files:
            parts: list[list[Any]] = [
                [numbers.setdefault(part.pack, len(numbers)), part.offset, part.length] for part in one.extents
            ]
            if len(parts) > 1:
                for part, extent in zip(parts, one.extents, strict=True):
                    part.append(extent.sha256)
            lines.append(json.dumps([one.path, one.size_bytes, one.sha256, parts], ensure_ascii=False))
        head = {
            "format": _FORMAT,
            "version": _VERSION,
            "files": len(self.files),
            "size_bytes": self.size_bytes,
            "packs": list(numbers),
        }
        text = "\n".join([json.dumps(head), *lines, ""])
        content = gzip.compress(text.encode(), compresslevel=6, mtime=0)
        return hashlib.sha256(content).hexdigest(), content


def decode(content: bytes, manifest: str) -> Manifest:
    """Return the manifest with the id `manifest` from its bytes.

    Raises StoreError where they are damaged, of a later version, or name a file outside the data set's folder.
    """
    if hashlib.sha256(content).hexdigest() != manifest:
        raise StoreError(
            f"the manifest {manifest[:12]} arrived damaged (sha256 differs)",
            hint="run the same command again; if it stays so, push the data set again",
        )
    head_line, *lines = gzip.decompress(content).decode().removesuffix("\n").split("\n")
    head = json.loads(head_line)
    if head["format"] != _FORMAT or head["version"] > _VERSION:
        raise StoreError(
            f"the manifest {manifest[:12]} is of {head['format']} {head['version']}, and this cloudrun reads"
            f" {_FORMAT} {_VERSION}",
            hint="upgrade cloudrun",
        )
    packs: list[str] = head["packs"]
    files = []
    for line in lines:
        path, size_bytes, sha256, parts = json.loads(line)
        _refuse_outside(path, manifest)
        extents = tuple(
            Extent(packs[part[0]], part[1], part[2], part[3] if len(part) > 3 else sha256) for part in parts
        )
        files.append(FileRecord(path, size_bytes, sha256, extents))
    return Manifest(tuple(files))


def tree_of(files: Iterable[tuple[str, int, str]]) -> str:
    """Return a hash of a folder's content, wherever its bytes lie. `files`: (path, size in bytes, sha256)."""
    lines = sorted(f"{path}\0{size_bytes}\0{sha256}\n" for path, size_bytes, sha256 in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _refuse_outside(path: str, manifest: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or path.startswith("/") or "\0" in path:
        raise StoreError(
            f"the manifest {manifest[:12]} names a file outside its folder: {path!r}",
            hint="it was not made by cloudrun: do not use it",
        )
