"""A run's folder in a bucket, of S3 or of anything that speaks its protocol. The only module that imports boto3.

Each object carries the sha256 of its bytes as metadata: an S3 ETag is no hash once a file is sent in parts.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error, RetriesExceededError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own, and no relative of Python's
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from cloudrun.errors import StoreError
from cloudrun.stores import Entry, OnBytes
from cloudrun.stores.s3_errors import S3Place, refused, unreachable, without_credentials

_TEMPORARY = (".tmp", ".partial")
_CONNECT_S, _READ_S = 5.0, 20.0
_TRIES = 3
# Smaller files are sent from memory in one request, larger ones in parts of this size.
_PART_BYTES = 8 * 1024 * 1024
_LOOKS_AT_ONCE = 8


class FileChanged(Exception):
    """The file was written to while it was read: nothing was stored."""


class S3Store:
    """Implements `Store` on a bucket. `uri` is `s3://BUCKET/PREFIX`; `endpoint` None means AWS itself."""

    def __init__(self, uri: str, endpoint: str | None, *, read_timeout_s: float = _READ_S) -> None:
        parts = urlsplit(uri)
        self._place = S3Place(parts.netloc, endpoint)
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/")
        self._read_timeout_s = read_timeout_s
        self._made: Any = None

    def entries(self, prefix: str) -> list[Entry]:
        """Objects that carry no hash are none of a run's files, and are left out."""
        with self._translated("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=f"{self._object(prefix)}/"
            )
            objects = [found["Key"] for page in pages for found in page.get("Contents", ())]
            names = [name for name in objects if not name.endswith(_TEMPORARY)]
            with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
                return [entry for entry in pool.map(self._look, names) if entry is not None]

    def read(self, key: str, *, offset: int = 0) -> bytes | None:
        """Raises StoreError where a whole file is not what was stored."""
        part = {"Range": f"bytes={offset}-"} if offset else {}
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
        if not offset and expected is not None and expected != hashlib.sha256(content).hexdigest():
            raise StoreError(
                f"{key} in bucket `{self._bucket}` is damaged (sha256 differs)", hint="run the same command again"
            )
        return content

    def get(self, key: str, target: Path) -> None:
        with self._translated("fetch", key):
            self._client.download_file(self._bucket, self._object(key), str(target), Config=_transfer())

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
        """Store a file of any size as it is now. Raises FileChanged where it is written to meanwhile."""
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            if before.st_size <= _PART_BYTES:
                content = file.read()
                if _differs(before, file) or len(content) != before.st_size:
                    raise FileChanged(key)
                self.put(key, content)
                return Entry(key, len(content), hashlib.sha256(content).hexdigest())
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            with self._translated("write", key):
                self._client.upload_fileobj(
                    _Unchanged(file, before, sha256, key),
                    self._bucket,
                    self._object(key),
                    ExtraArgs={"Metadata": {"sha256": sha256}, "ChecksumAlgorithm": "SHA256"},
                    Config=_transfer(),
                )
        return Entry(key, before.st_size, sha256)

    @property
    def _client(self) -> Any:
        if self._made is None:
            session = boto3.Session()
            # An endpoint of one's own seldom cares for the region, but a request is signed for one.
            region = session.region_name or ("us-east-1" if self._place.endpoint else None)
            config = Config(
                connect_timeout=_CONNECT_S,
                read_timeout=self._read_timeout_s,
                retries={"total_max_attempts": _TRIES, "mode": "standard"},
                max_pool_connections=_LOOKS_AT_ONCE + 4,
                tcp_keepalive=True,
            )
            try:
                self._made = session.client("s3", endpoint_url=self._place.endpoint, region_name=region, config=config)
            except ValueError as err:  # boto3's word on a URL that is none
                raise StoreError(
                    f"{self._place.endpoint} is not an endpoint", hint="write https://HOST or http://HOST:PORT"
                ) from err
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
        return None if sha256 is None else Entry(key, int(found["ContentLength"]), sha256)

    @contextmanager
    def _translated(self, verb: str, key: str) -> Iterator[None]:
        """What boto3 raises, as a StoreError about this bucket."""
        what = f"{verb} {key}"
        try:
            yield
        except ClientError as err:
            raise refused(self._place, what, err.response) from err
        except (NoCredentialsError, PartialCredentialsError) as err:
            raise without_credentials(self._place, str(err)) from err
        except (ConnectionError, HTTPClientError, RetriesExceededError) as err:
            raise unreachable(self._place, what, err) from err
        except (BotoCoreError, Boto3Error) as err:
            raise StoreError(
                f"cannot {what} in bucket `{self._bucket}`: {err}", hint="are `store` and `endpoint` as they should be?"
            ) from err
        except OSError as err:
            raise StoreError(
                f"cannot {what}: {err.strerror or err}", hint="run the same command again when that is mended"
            ) from err


class _Unchanged:
    """A file to be sent in parts, whose last part is only given out if it still is what was hashed.

    boto3 reads the parts in order, and nothing is visible in the bucket before the last one has come:
    an error here leaves there what was there before.
    """

    def __init__(self, file: BinaryIO, before: os.stat_result, sha256: str, key: str) -> None:
        self._file = file
        self._before = before
        self._sha256 = sha256
        self._key = key
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._digest.update(content)
        at_end = self._file.tell() >= self._before.st_size
        if at_end and (_differs(self._before, self._file) or self._digest.hexdigest() != self._sha256):
            raise FileChanged(self._key)
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


def _differs(before: os.stat_result, file: BinaryIO) -> bool:
    now = os.fstat(file.fileno())
    return (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns)


def _transfer() -> TransferConfig:
    return TransferConfig(
        multipart_threshold=_PART_BYTES,
        multipart_chunksize=_PART_BYTES,
        max_concurrency=4,
        preferred_transfer_client="classic",  # the other one reads files by itself
    )
