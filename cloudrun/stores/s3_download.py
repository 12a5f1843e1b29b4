"""Fetch a large object from a bucket in ranges, side by side; a cut costs only the ranges in flight."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError, ResponseStreamingError

from cloudrun.retry import doubled, tries
from cloudrun.stores.ranges import note_of

_RANGE_BYTES = 8 * 1024 * 1024
_PIECE_BYTES = 1 << 18
_THREADS = 5
_PAUSES_S = doubled(0.5, 4)


class ObjectChanged(Exception):
    """Another version has taken the object's place since the download began."""


def download_in_ranges(client: Any, bucket: str, name: str, target: Path) -> None:
    """Fetch the object `name` into `target`, which may have parts of this version already.

    Raises ObjectChanged where another version takes its place; the next call then starts anew.
    """
    head = client.head_object(Bucket=bucket, Key=name)
    size, etag = int(head["ContentLength"]), str(head["ETag"])
    note = note_of(target)
    done = _done_of(note, target, etag, size)
    with target.open("r+b" if done else "wb") as file:
        file.truncate(size)
        with note.open("a" if done else "w", encoding="utf-8") as notes:
            if not done:
                notes.write(json.dumps({"etag": etag, "size": size, "range_bytes": _RANGE_BYTES}) + "\n")
            ranges = _Ranges(client, bucket, name, etag, size, file, notes)
            try:
                ranges.fetch([begin for begin in range(0, size, _RANGE_BYTES) if begin not in done])
            except ObjectChanged:
                note.unlink()
                raise
    note.unlink()


def _done_of(note: Path, target: Path, etag: str, size: int) -> set[int]:
    """Return the first bytes of the ranges of this version that `target` has, by its note."""
    try:
        head, *lines = note.read_text(encoding="utf-8").splitlines()
        if json.loads(head) != {"etag": etag, "size": size, "range_bytes": _RANGE_BYTES}:
            return set()
        if target.stat().st_size != size:
            return set()
        return {int(line) for line in lines if line.endswith(".") and line[:-1].isdigit() for line in [line[:-1]]}
    except (FileNotFoundError, ValueError):
        return set()


class _Ranges:
    """One download under way."""

    def __init__(self, client: Any, bucket: str, name: str, etag: str, size: int, file: BinaryIO, notes: Any) -> None:  # noqa: PLR0913 - names one version of an object, and where it goes
        self._client = client
        self._bucket = bucket
        self._name = name
        self._etag = etag
        self._size = size
        self._number = file.fileno()
        self._notes = notes
        self._lock = threading.Lock()
        self._failed = threading.Event()

    def fetch(self, begins: list[int]) -> None:
        with ThreadPoolExecutor(_THREADS) as pool:
            fetches = [pool.submit(self._fetch, begin) for begin in begins]
            try:
                for one in fetches:
                    one.result()
            except BaseException:
                self._failed.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _fetch(self, begin: int) -> None:
        at, end = begin, min(begin + _RANGE_BYTES, self._size)
        buffer = memoryview(bytearray(min(_PIECE_BYTES, end - begin)))
        for pause_s in tries(_PAUSES_S):
            try:
                for count in self._pieces(at, end, buffer):
                    os.pwrite(self._number, buffer[:count], at)
                    at += count
            except BotoCoreError:
                if pause_s is None or self._failed.is_set():
                    raise
            if at == end:
                break
            if self._failed.is_set():  # another range has failed, and this one was given up
                return
        if at != end:
            raise ResponseStreamingError(error=f"it breaks off at byte {at - begin} of {end - begin}")
        with self._lock:
            self._notes.write(f"{begin}.\n")  # the dot: a line that a kill cut short has none
            self._notes.flush()

    def _pieces(self, begin: int, end: int, buffer: memoryview) -> Any:
        try:
            answer = self._client.get_object(
                Bucket=self._bucket, Key=self._name, Range=f"bytes={begin}-{end - 1}", IfMatch=self._etag
            )
        except ClientError as err:
            if err.response["Error"].get("Code") in ("PreconditionFailed", "412", "InvalidRange"):
                raise ObjectChanged(self._name) from err
            raise
        body = answer["Body"]
        left = end - begin
        try:
            while left > 0 and not self._failed.is_set():
                count = body.readinto(buffer[: min(left, len(buffer))])
                if not count:
                    return
                left -= count
                yield count
        finally:
            if left > 0:
                body.close()
