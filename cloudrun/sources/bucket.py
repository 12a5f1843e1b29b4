"""Fetch a folder of a bucket to this disk, an object a file: many at once, each verified on arrival."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudrun.errors import CloudrunError, StoreError
from cloudrun.files import atomic
from cloudrun.files.untrusted import read_object
from cloudrun.sources import Source, SourceProblem
from cloudrun.sources.archive import inside
from cloudrun.sources.web import Say
from cloudrun.stores.s3_client import make_client, translated
from cloudrun.stores.s3_errors import S3Place
from cloudrun.text.pace import Pace
from cloudrun.text.units import size

_AT_ONCE = 16
_TRIES = 3
_PIECE_BYTES = 256 * 1024
_PART = ".cloudrun-part"
_LARGEST_NOTE_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of the bucket. `tag` is its ETag: another ETag means other bytes."""

    name: str  # below the source's prefix
    size_bytes: int
    tag: str


@dataclass(frozen=True, slots=True)
class Expected:
    """The hash that an object must have. `of` is `sha256`, `md5`, or `parts`: the MD5 of the parts' MD5s."""

    of: str
    digest: str
    part_bytes: int = 0


OnBytes = Callable[[int], None]
"""Called with how many more bytes have come; a negative number where bytes have to come again."""


class Bucket:
    """The objects of one source; `endpoint` is None for AWS."""

    def __init__(self, source: Source, endpoint: str | None) -> None:
        bucket, _, prefix = source.rest.partition("/")
        self.shown = source.url
        self._place = S3Place(bucket, endpoint)
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._client = make_client(self._place, connections=_AT_ONCE)

    def objects(self) -> list[Listed]:
        """Return all objects but those that stand for folders. Raises StoreError, or SourceProblem where none exist."""
        with translated(self._place, f"list {self._prefix or 'it'}"):
            found = list(self._listed())
        if not found:
            raise SourceProblem(
                f"there is nothing below {self.shown}", hint="is the prefix right? it is a folder's name"
            )
        return found

    def refuse_unreadable(self, one: Listed) -> None:
        """Begin to read the object: to list is one permission, to read another. Raises StoreError."""
        with translated(self._place, f"read {one.name}"):
            self._client.get_object(Bucket=self._bucket, Key=f"{self._prefix}{one.name}", IfMatch=one.tag)[
                "Body"
            ].close()

    def fetch(self, one: Listed, target: Path, on_bytes: OnBytes) -> None:
        """Fetch the object to `target`, under a temporary name until it is whole. Raises StoreError or SourceProblem.

        After a failure it goes on where it was, and gives up after three tries in a row that bring no byte.
        """
        part = target.with_name(f"{target.name}{_PART}")
        failed: CloudrunError | None = None
        tries = 0
        while tries < _TRIES:
            before = _size(part)
            try:
                with translated(self._place, f"fetch {one.name}"):
                    expected = self._rest_of(one, part, on_bytes)
                if _is_whole(part, one, expected):
                    atomic.settle(part, target)
                    return
                failed = SourceProblem(
                    f"{self.shown}: {one.name} arrived damaged (its hash differs)", hint="run the same command again"
                )
            except StoreError as err:
                failed = err
            on_bytes(-_size(part))
            if _size(part) >= one.size_bytes:  # all bytes have come, and are not as they should be
                part.unlink(missing_ok=True)
            tries = 0 if before < _size(part) else tries + 1
        assert failed is not None
        raise failed

    def _listed(self) -> Iterator[Listed]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        for page in pages:
            for found in page.get("Contents", ()):
                name = found["Key"].removeprefix(self._prefix)
                if name and not name.endswith("/"):
                    yield Listed(name, int(found["Size"]), found["ETag"])

    def _rest_of(self, one: Listed, part: Path, on_bytes: OnBytes) -> Expected | None:
        """Fetch the rest of the object to `part`; return the hash that it must have, None where the bucket has none."""
        begun = _size(part)
        if begun > one.size_bytes:
            part.unlink()
            begun = 0
        on_bytes(begun)
        words = {"Range": f"bytes={begun}-"} if 0 < begun < one.size_bytes else {}
        answer = self._client.get_object(Bucket=self._bucket, Key=f"{self._prefix}{one.name}", IfMatch=one.tag, **words)
        body = answer["Body"]
        try:
            if begun < one.size_bytes or not one.size_bytes:
                with part.open("ab") as file:
                    while piece := body.read(_PIECE_BYTES):
                        file.write(piece)
                        on_bytes(len(piece))
        finally:
            body.close()
        return _known_hash(answer, one) or self._hash_in_parts(one)

    def _hash_in_parts(self, one: Listed) -> Expected | None:
        """Return the hash of an object that was sent in parts; None for another object, or unequal parts.

        Its ETag is the MD5 of the parts' MD5s, followed by the number of parts.
        """
        found = re.fullmatch(r'"?([0-9a-f]{32})-(\d+)"?', one.tag)
        if found is None:
            return None
        first = self._client.head_object(Bucket=self._bucket, Key=f"{self._prefix}{one.name}", PartNumber=1)
        part_bytes = int(first["ContentLength"])
        if part_bytes < 1 or -(-one.size_bytes // part_bytes) != int(found[2]):
            return None
        return Expected("parts", found[1], part_bytes)


def collect(bucket: Bucket, folder: Path, noted: Path, *, say: Say) -> int:
    """Fetch all objects of `bucket` to below `folder`; return how many they are. Raises StoreError or SourceProblem.

    The file `noted` tells which version of each object an earlier call has fetched: the same versions stay.
    """
    objects = bucket.objects()
    known = _read(noted)
    paths = {one.name: inside(folder, one.name, bucket.shown) for one in objects}
    for one in objects:
        if known.get(one.name) != [one.size_bytes, one.tag]:
            for path in (paths[one.name], paths[one.name].with_name(f"{paths[one.name].name}{_PART}")):
                path.unlink(missing_ok=True)
    noted.write_text(json.dumps({one.name: [one.size_bytes, one.tag] for one in objects}), encoding="utf-8")
    wanted = [one for one in objects if not paths[one.name].is_file()]
    total, there = sum(one.size_bytes for one in objects), len(objects) - len(wanted)
    say(f"{size(total)} in {len(objects)} files from {bucket.shown}" + (f": {there} are here already" if there else ""))
    _refuse_without_room(bucket, folder, wanted)
    _fetch_all(bucket, wanted, paths, say)
    return len(objects)


def _fetch_all(bucket: Bucket, wanted: list[Listed], paths: dict[str, Path], say: Say) -> None:
    pace, lock = Pace(), threading.Lock()
    total = sum(one.size_bytes for one in wanted)
    come, done = 0, 0
    pace.elapsed_s(0)

    def on_bytes(count: int) -> None:
        nonlocal come
        with lock:
            come += count
            if pace.is_due(come) and come < total:
                say(pace.text(come, total, files=(done, len(wanted))))

    def fetch(one: Listed) -> None:
        nonlocal done
        paths[one.name].parent.mkdir(parents=True, exist_ok=True)
        bucket.fetch(one, paths[one.name], on_bytes)
        with lock:
            done += 1

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running = [pool.submit(fetch, one) for one in wanted]
        ended, waiting = wait(running, return_when=FIRST_EXCEPTION)
        for future in waiting:
            future.cancel()
        for future in ended:
            future.result()
    say(pace.text(total, total, files=(len(wanted), len(wanted))))


def _refuse_without_room(bucket: Bucket, folder: Path, wanted: list[Listed]) -> None:
    needed, free = sum(one.size_bytes for one in wanted), shutil.disk_usage(folder).free
    if needed > free:
        raise SourceProblem(
            f"{bucket.shown} has {size(needed)}, and {size(free)} of the disk are free",
            hint="ask for a larger disk: `resources: {disk: 200}` (GB)",
        )


def _known_hash(answer: dict[str, Any], one: Listed) -> Expected | None:
    """Return the sha256 that cloudrun's stores add as metadata; else the ETag, where it is the MD5 of the bytes."""
    sha256 = answer.get("Metadata", {}).get("sha256")
    if isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256):
        return Expected("sha256", sha256)
    tag = one.tag.strip('"')
    is_locked = "kms" in str(answer.get("ServerSideEncryption", "")) or answer.get("SSECustomerAlgorithm")
    return Expected("md5", tag) if re.fullmatch(r"[0-9a-f]{32}", tag) and not is_locked else None


def _is_whole(part: Path, one: Listed, expected: Expected | None) -> bool:
    if _size(part) != one.size_bytes:
        return False
    if expected is None:  # botocore has compared the checksum that came with the bytes, if there was one
        return True
    with part.open("rb") as file:
        if expected.of != "parts":
            return hashlib.file_digest(file, expected.of).hexdigest() == expected.digest
        parts = hashlib.md5(usedforsecurity=False)
        while piece := file.read(expected.part_bytes):
            parts.update(hashlib.md5(piece, usedforsecurity=False).digest())
        return parts.hexdigest() == expected.digest


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read(noted: Path) -> dict[str, list[Any]]:
    return read_object(noted, _LARGEST_NOTE_BYTES) or {}
