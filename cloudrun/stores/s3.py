"""A run's folder in a bucket, of S3 or of anything that speaks its protocol.

Each object carries the sha256 of its bytes as metadata: an S3 ETag is no hash once a file is sent in parts.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from cloudrun.errors import StoreError
from cloudrun.files.atomic import TEMPORARY
from cloudrun.stores import Entry, OnBytes
from cloudrun.stores.s3_client import READ_S, make_client, translated
from cloudrun.stores.s3_download import ObjectChanged, download_in_ranges
from cloudrun.stores.s3_errors import S3Place
from cloudrun.stores.s3_upload import PART_BYTES, FileChanged, Journal, upload_in_parts

_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOOKS_AT_ONCE = 8
_VERSIONS = 3


class S3Store:
    """Implements `Store` on a bucket. `uri` is `s3://BUCKET/PREFIX`; `endpoint` None means AWS itself."""

    def __init__(
        self, uri: str, endpoint: str | None, *, read_timeout_s: float = READ_S, journal: Path | None = None
    ) -> None:
        """`journal` is a file on this computer that remembers uploads which were cut off, so that they can go on."""
        parts = urlsplit(uri)
        self._place = S3Place(parts.netloc, endpoint)
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/")
        self._read_timeout_s = read_timeout_s
        self._journal = None if journal is None else Journal(journal)
        self._made: Any = None

    def entries(self, prefix: str) -> list[Entry]:
        """Return the objects below `prefix` that carry a hash; others are not a run's files, and are left out."""
        with self._translated("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=f"{self._object(prefix)}/"
            )
            objects = [found["Key"] for page in pages for found in page.get("Contents", ())]
            names = [name for name in objects if not name.endswith(TEMPORARY)]
            with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
                return [entry for entry in pool.map(self._look, names) if entry is not None]

    def left_out(self, prefix: str) -> list[str]:
        return []  # the uploader's log names what it could not send

    def is_there(self) -> bool:
        return True

    def read(self, key: str, *, offset: int = 0, limit: int | None = None) -> bytes | None:
        """Read as `Store.read` says. Raises StoreError also where a whole file's hash is not what was stored."""
        last = "" if limit is None else str(offset + limit - 1)
        part = {"Range": f"bytes={offset}-{last}"} if offset or last else {}
        with self._translated("read", key):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._object(key), **part)
            except ClientError as err:
                code = err.response["Error"].get("Code")
                if code == "NoSuchKey":
                    return None
                if code == "InvalidRange":  # nothing is there from `offset` on
                    return b""
                raise
            content: bytes = answer["Body"].read()
        expected = answer["Metadata"].get("sha256")
        is_whole = not offset and (limit is None or len(content) < limit)
        if is_whole and expected is not None and expected != hashlib.sha256(content).hexdigest():
            raise StoreError(
                f"{key} in bucket `{self._bucket}` is damaged (sha256 differs)", hint="run the same command again"
            )
        return content

    def size(self, key: str) -> int | None:
        with self._translated("read", key):
            try:
                return int(self._client.head_object(Bucket=self._bucket, Key=self._object(key))["ContentLength"])
            except ClientError as err:
                if err.response["Error"].get("Code") == "404":
                    return None
                raise

    def get(self, key: str, target: Path) -> None:
        with self._translated("fetch", key):
            for _ in range(_VERSIONS):
                try:
                    return download_in_ranges(self._client, self._bucket, self._object(key), target)
                except ObjectChanged:
                    continue
        raise StoreError(f"{key} changes all the time while it is fetched", hint="run the same command again")

    def put(self, key: str, content: bytes) -> None:
        digest = hashlib.sha256(content)
        with self._translated("write", key):
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._object(key),
                Body=content,
                Metadata={"sha256": digest.hexdigest()},
                ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
            )

    def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            with self._translated("remove", key):
                self._client.delete_object(Bucket=self._bucket, Key=self._object(key))

    def push(self, source: Path, prefix: str, on_bytes: OnBytes) -> None:
        """Send a folder to below `prefix`; a file whose size and sha256 are there already is not sent again.

        Raises FileChanged where a file is written to meanwhile.
        """
        files = [path for path in source.rglob("*") if path.is_file()]
        there = {entry.key: entry for entry in self.entries(prefix)}
        total, sent = sum(path.stat().st_size for path in files), 0
        on_bytes(sent, total)
        for path in files:
            key = f"{prefix}/{path.relative_to(source).as_posix()}"
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
            if there.get(key) != Entry(key, size, sha256):
                self.upload(path, key)
            sent += size
            on_bytes(sent, total)

    def upload(self, path: Path, key: str) -> Entry:
        """Store a file of any size as it is now. Raises FileChanged where the file is written to meanwhile."""
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            if before.st_size <= PART_BYTES:
                content = file.read()
                if _differs(before, file) or len(content) != before.st_size:
                    raise FileChanged(key)
                self.put(key, content)
                return Entry(key, len(content), hashlib.sha256(content).hexdigest())
            with self._translated("write", key):
                sha256 = upload_in_parts(self._client, self._bucket, self._object(key), file, before, self._journal)
        return Entry(key, before.st_size, sha256)

    @property
    def _client(self) -> Any:
        if self._made is None:
            self._made = make_client(self._place, read_timeout_s=self._read_timeout_s)
        return self._made

    def _object(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def _look(self, name: str) -> Entry | None:
        try:
            found = self._client.head_object(Bucket=self._bucket, Key=name)
        except ClientError as err:
            if err.response["Error"].get("Code") == "404":
                return None  # removed since it was listed
            raise
        sha256 = found["Metadata"].get("sha256")
        key = name.removeprefix(f"{self._prefix}/") if self._prefix else name
        if sha256 is None or _SHA256.fullmatch(sha256) is None:
            return None
        return Entry(key, int(found["ContentLength"]), sha256)

    def _translated(self, verb: str, key: str) -> AbstractContextManager[None]:
        return translated(self._place, f"{verb} {key}")


def _differs(before: os.stat_result, file: BinaryIO) -> bool:
    now = os.fstat(file.fileno())
    return (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns)
