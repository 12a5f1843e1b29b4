"""Send a large file to a bucket in parts, side by side; parts that were sent before a cut are not sent again."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO

from botocore.exceptions import ClientError

from cloudrun.files import atomic
from cloudrun.files.untrusted import read_object
from cloudrun.stores.s3_body import Body

# Smaller files are sent in one request. After a cut, this size times the threads is sent again at the most.
PART_BYTES = 8 * 1024 * 1024
_THREADS = 4
_LARGEST_JOURNAL_BYTES = 32_000_000
_MOST_PARTS = 10_000  # S3 takes no more


class FileChanged(Exception):
    """The file was written to while it was read: nothing was stored."""


@dataclass(frozen=True, slots=True)
class _Content:
    """The content to send, hashed once; each part has the checksum by which the server will check it."""

    size: int
    part_bytes: int
    sha256: str
    crc32s: tuple[int, ...]


class Journal:
    """The uploads that this computer began and has not ended: a JSON file {object: {id, sha256, part_bytes}}."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the entry of each object; none where the file is missing or cannot be read."""
        return read_object(self._path, _LARGEST_JOURNAL_BYTES) or {}

    def note(self, name: str, entry: dict[str, Any] | None) -> None:
        """Write the entry of object `name`; None removes it."""
        entries = {key: value for key, value in self.read().items() if key != name}
        if entry is not None:
            entries[name] = entry
        atomic.write(self._path, json.dumps(entries))


def upload_in_parts(  # noqa: PLR0913 - names one object and one version of a file
    client: Any, bucket: str, name: str, file: BinaryIO, before: os.stat_result, journal: Journal | None
) -> str:
    """Send `file`, whose state was `before`, as the object `name`; return the sha256 of the stored object.

    Raises FileChanged where the file is written to meanwhile. Then, and where the network fails, nothing new is visible
    in the bucket. With a journal the parts that have arrived stay for the next try.
    """
    content = _look_at(file, before, name)
    upload_id, there = _begin(client, bucket, name, content, journal)
    try:
        missing = [number for number in range(1, len(content.crc32s) + 1) if number not in there]
        there.update(_send(client, bucket, name, file, content, upload_id, missing))
        _refuse_changed(before, file, name)
        parts = [there[number] for number in sorted(there)]
        client.complete_multipart_upload(Bucket=bucket, Key=name, UploadId=upload_id, MultipartUpload={"Parts": parts})
    except BaseException as err:
        if journal is None or isinstance(err, FileChanged) or _is_refused(err):
            with suppress(Exception):  # what is left is billed, but the first error is the one to tell
                client.abort_multipart_upload(Bucket=bucket, Key=name, UploadId=upload_id)
            if journal is not None:
                journal.note(name, None)
        if _is_damaged(err):
            raise FileChanged(name) from err  # a part was not the one that had been hashed
        raise
    if journal is not None:
        journal.note(name, None)
    return content.sha256


def _look_at(file: BinaryIO, before: os.stat_result, name: str) -> _Content:
    size = before.st_size
    part_bytes = PART_BYTES
    while size > part_bytes * _MOST_PARTS:
        part_bytes *= 2
    whole, crc32s = hashlib.sha256(), []
    buffer = memoryview(bytearray(min(part_bytes, size)))
    file.seek(0)
    for part in _parts_of(size, part_bytes):
        view = buffer[: part[1]]
        if file.readinto(view) != len(view):  # type: ignore[attr-defined]
            raise FileChanged(name)
        whole.update(view)
        crc32s.append(zlib.crc32(view))
    _refuse_changed(before, file, name)
    return _Content(size, part_bytes, whole.hexdigest(), tuple(crc32s))


def _parts_of(size: int, part_bytes: int) -> Iterator[tuple[int, int]]:
    for begin in range(0, size, part_bytes):
        yield begin, min(part_bytes, size - begin)


def _begin(
    client: Any, bucket: str, name: str, content: _Content, journal: Journal | None
) -> tuple[str, dict[int, dict[str, Any]]]:
    """Return the id of the upload to continue and its parts; begin an upload where there is none of this content."""
    known = journal.read().get(name) if journal is not None else None
    if known is not None:
        if (known["sha256"], known["part_bytes"]) == (content.sha256, content.part_bytes):
            there = _parts_there(client, bucket, name, known["id"], content)
            if there is not None:
                return known["id"], there
        else:
            with suppress(ClientError):  # of another content: nobody else would ever end it
                client.abort_multipart_upload(Bucket=bucket, Key=name, UploadId=known["id"])
    upload_id = client.create_multipart_upload(
        Bucket=bucket, Key=name, Metadata={"sha256": content.sha256}, ChecksumAlgorithm="CRC32"
    )["UploadId"]
    if journal is not None:
        entry = {"id": upload_id, "sha256": content.sha256, "part_bytes": content.part_bytes}
        journal.note(name, entry)
    return upload_id, {}


def _parts_there(
    client: Any, bucket: str, name: str, upload_id: str, content: _Content
) -> dict[int, dict[str, Any]] | None:
    """Return the parts of the upload that the server has; None where it no longer knows the upload."""
    sizes = [length for _, length in _parts_of(content.size, content.part_bytes)]
    found: dict[int, dict[str, Any]] = {}
    try:
        for page in client.get_paginator("list_parts").paginate(Bucket=bucket, Key=name, UploadId=upload_id):
            for part in page.get("Parts", ()):
                number = part["PartNumber"]
                if number <= len(sizes) and part["Size"] == sizes[number - 1]:
                    found[number] = _named(number, part["ETag"], content.crc32s[number - 1])
    except ClientError as err:
        if err.response["Error"].get("Code") in ("NoSuchUpload", "NoSuchKey", "404"):
            return None
        raise
    return found


def _send(  # noqa: PLR0913 - names one object and one version of a file
    client: Any, bucket: str, name: str, file: BinaryIO, content: _Content, upload_id: str, missing: list[int]
) -> dict[int, dict[str, Any]]:
    rooms: SimpleQueue[bytearray] = SimpleQueue()
    for _ in range(min(_THREADS, len(missing))):
        rooms.put(bytearray(min(content.part_bytes, content.size)))

    def send(number: int) -> tuple[int, dict[str, Any]]:
        room = rooms.get()
        try:
            begin = (number - 1) * content.part_bytes
            view = memoryview(room)[: min(content.part_bytes, content.size - begin)]
            if os.preadv(file.fileno(), [view], begin) != len(view):
                raise FileChanged(name)
            crc32 = content.crc32s[number - 1]
            answer = client.upload_part(
                Bucket=bucket,
                Key=name,
                UploadId=upload_id,
                PartNumber=number,
                Body=Body(view),
                ChecksumCRC32=_encoded(crc32),
            )
            return number, _named(number, answer["ETag"], crc32)
        finally:
            rooms.put(room)

    with ThreadPoolExecutor(_THREADS) as pool:
        sent = [pool.submit(send, number) for number in missing]
        try:
            return dict(one.result() for one in sent)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _named(number: int, etag: str, crc32: int) -> dict[str, Any]:
    return {"PartNumber": number, "ETag": etag, "ChecksumCRC32": _encoded(crc32)}


def _encoded(crc32: int) -> str:
    return base64.b64encode(crc32.to_bytes(4, "big")).decode()


def _refuse_changed(before: os.stat_result, file: BinaryIO, name: str) -> None:
    now = os.fstat(file.fileno())
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise FileChanged(name)


def _is_refused(err: BaseException) -> bool:
    """Return whether the server refused, rather than was cut off: to try the same again would not help."""
    return isinstance(err, ClientError)


def _is_damaged(err: BaseException) -> bool:
    return isinstance(err, ClientError) and err.response["Error"].get("Code") in (
        "BadDigest",
        "InvalidDigest",
        "XAmzContentChecksumMismatch",
    )
