"""List the files of a data set, each with its hash and where its bytes lie. Pure.

A manifest is immutable: it is stored under the sha256 of its own bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
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
    try:
        files = tuple(_records(_unzipped(content)))
        _refuse_names_that_exclude(files)
    except _Foreign as err:
        raise StoreError(
            f"the manifest {manifest[:12]} cannot be used: {err}",
            hint="it was not made by this cloudrun: do not use it",
        ) from None
    return Manifest(files)


class _Foreign(Exception):
    """What no cloudrun has written; the message says what and where."""


# Hashes hardly compress, and a manifest of empty files alone by some 60.
_MOST_UNZIPPED, _ALWAYS_ALLOWED_BYTES = 200, 1_000_000
_LARGEST_FILE_BYTES = 2**50
_LONGEST_NAME_BYTES, _LONGEST_PATH_BYTES = 255, 4_000
_HASH = re.compile(r"[0-9a-f]{64}")


def _unzipped(content: bytes) -> list[str]:
    most = len(content) * _MOST_UNZIPPED + _ALWAYS_ALLOWED_BYTES
    stream = zlib.decompressobj(wbits=31)
    try:
        text = stream.decompress(content, most)
    except zlib.error as err:
        raise _Foreign(f"it is no gzip file: {err}") from None
    if not stream.eof:
        raise _Foreign(f"its {len(content):,} bytes are more than {most:,} when unpacked, or end too early")
    try:
        return text.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as err:
        raise _Foreign(f"it is no text: {err}") from None


def _records(lines: Sequence[str]) -> Iterator[FileRecord]:
    head = _parsed(lines[0], 1)
    if not isinstance(head, dict):
        raise _Foreign("line 1 is no object")
    version = head.get("version")
    if head.get("format") != _FORMAT or not isinstance(version, int) or version > _VERSION:
        raise StoreError(
            f"the manifest is of {head.get('format')!r} {version!r}, and this cloudrun reads {_FORMAT} {_VERSION}",
            hint="upgrade cloudrun",
        )
    packs = head.get("packs")
    if not isinstance(packs, list) or not all(isinstance(one, str) and _HASH.fullmatch(one) for one in packs):
        raise _Foreign("line 1: the names of its packs are not hashes")
    for number, line in enumerate(lines[1:], start=2):
        yield _record(_parsed(line, number), packs, number)


def _parsed(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise _Foreign(f"line {number} is not JSON: it begins with {line[:40]!r}") from None


def _record(plain: Any, packs: Sequence[str], number: int) -> FileRecord:
    match plain:
        case [str(path), int(size_bytes), str(sha256), list(parts)] if _HASH.fullmatch(sha256):
            pass
        case _:
            raise _Foreign(f"line {number} is not a path, a size, a hash and a list")
    _refuse_path(path)
    extents = tuple(_extent(part, packs, sha256, number) for part in parts)
    if not 0 <= size_bytes <= _LARGEST_FILE_BYTES or sum(one.length for one in extents) != size_bytes:
        raise _Foreign(f"line {number}: {path!r} has {size_bytes} bytes, and its parts have others")
    return FileRecord(path, size_bytes, sha256, extents)


def _extent(plain: Any, packs: Sequence[str], whole: str, number: int) -> Extent:
    match plain:
        case [int(pack), int(offset), int(length)]:
            sha256 = whole
        case [int(pack), int(offset), int(length), str(sha256)] if _HASH.fullmatch(sha256):
            pass
        case _:
            raise _Foreign(f"line {number}: a part is not a pack, a place and a length")
    if not (0 <= pack < len(packs) and 0 <= offset <= _LARGEST_FILE_BYTES and 0 < length <= _LARGEST_FILE_BYTES):
        raise _Foreign(f"line {number}: there is no part [{pack}, {offset}, {length}]")
    return Extent(packs[pack], offset, length, sha256)


def _refuse_names_that_exclude(files: Sequence[FileRecord]) -> None:
    """Two files of one name, or a file where another one needs a folder."""
    names = {one.path for one in files}
    if len(names) != len(files):
        raise _Foreign("it names a file twice")
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    both = sorted(names & folders)
    if both:
        raise _Foreign(f"{both[0]!r} is a file and a folder")


def tree_of(files: Iterable[tuple[str, int, str]]) -> str:
    """Return a hash of a folder's content, wherever its bytes lie. `files`: (path, size in bytes, sha256)."""
    lines = sorted(f"{path}\0{size_bytes}\0{sha256}\n" for path, size_bytes, sha256 in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _refuse_path(path: str) -> None:
    if path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise _Foreign(f"it names a file outside its folder, or none: {path[:200]!r}")
    try:
        lengths = [len(part.encode()) for part in path.split("/")]
    except UnicodeEncodeError:
        raise _Foreign(f"it names a file that no disk can hold: {path[:200]!r}") from None
    if max(lengths) > _LONGEST_NAME_BYTES or sum(lengths) + len(lengths) > _LONGEST_PATH_BYTES:
        raise _Foreign(f"it names a file whose name is too long: {path[:80]!r}...")
