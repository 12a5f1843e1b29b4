"""Keep whole objects in a bucket, of S3 or of anything that speaks its protocol, by its conditional writes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from cloudrun.errors import StoreError
from cloudrun.retry import doubled, tries
from cloudrun.stores import Listed
from cloudrun.stores.s3_body import Body
from cloudrun.stores.s3_client import READ_S, make_client, translated
from cloudrun.stores.s3_errors import S3Place

_PIECE_BYTES = 1 << 18
_CONFLICT_PAUSES_S = doubled(0.1, 4)
_DELETED_AT_ONCE = 1000  # S3 takes no more in one request


class S3Objects:
    """Implements `Objects` on a bucket. `uri` is `s3://BUCKET/PREFIX`; `endpoint` None means AWS itself."""

    def __init__(self, uri: str, endpoint: str | None, *, read_timeout_s: float = READ_S) -> None:
        parts = urlsplit(uri)
        self._place = S3Place(parts.netloc, endpoint)
        self._bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/".lstrip("/")
        self._client = make_client(self._place, read_timeout_s=read_timeout_s, connections=24)

    def create(self, key: str, content: bytes | memoryview, *, sha256: str | None = None) -> bool:
        return self._put(key, content, {"IfNoneMatch": "*"}, sha256)

    def read_tagged(self, key: str) -> tuple[bytes, str] | None:
        with translated(self._place, f"read {key}"):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            except ClientError as err:
                if err.response["Error"].get("Code") == "NoSuchKey":
                    return None
                raise
            return answer["Body"].read(), answer["ETag"]

    def swap(self, key: str, content: bytes, tag: str | None) -> bool:
        if self._put(key, content, {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}):
            return True
        # botocore repeats a request whose answer was lost; the repeated request then finds our own object.
        there = self.read_tagged(key)
        return there is not None and there[0] == content

    def read_range(self, key: str, offset: int, length: int) -> Iterator[memoryview]:
        with translated(self._place, f"read {key}"):
            answer = self._client.get_object(
                Bucket=self._bucket, Key=self._prefix + key, Range=f"bytes={offset}-{offset + length - 1}"
            )
            body = answer["Body"]
            buffer = memoryview(bytearray(min(_PIECE_BYTES, length)))
            left = length
            try:
                while left > 0:
                    got = body.readinto(buffer[: min(left, len(buffer))])
                    if not got:
                        raise StoreError(
                            f"{key} in {self._place} is shorter than it should be",
                            hint="it is damaged: push the data set again",
                        )
                    left -= got
                    yield buffer[:got]
            finally:
                if left > 0:
                    body.close()  # else the connection would be used again, with the rest of this object in it

    def listed(self, prefix: str) -> list[Listed]:
        with translated(self._place, f"list {prefix}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            return [
                Listed(one["Key"].removeprefix(self._prefix), int(one["Size"]), one["LastModified"].timestamp())
                for page in pages
                for one in page.get("Contents", ())
            ]

    def remove(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            batch = [{"Key": self._prefix + key} for key in keys[start : start + _DELETED_AT_ONCE]]
            with translated(self._place, f"remove {keys[start]}"):
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": batch, "Quiet": True})
            for refused in answer.get("Errors", ()):
                raise StoreError(
                    f"{self._place} refused to remove {refused.get('Key')}: {refused.get('Code')}",
                    hint="the credentials need s3:DeleteObject there",
                )

    def clear_unfinished(self, before: float) -> int:
        """Remove the unfinished uploads of all keys below the prefix: runs' checkpoints are sent in parts, too."""
        with translated(self._place, "list unfinished uploads"):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            left = [one for page in pages for one in page.get("Uploads", ()) if one["Initiated"].timestamp() < before]
            for one in left:
                with suppress(ClientError):  # ended since it was listed
                    self._client.abort_multipart_upload(Bucket=self._bucket, Key=one["Key"], UploadId=one["UploadId"])
        return len(left)

    def _put(self, key: str, content: bytes | memoryview, condition: dict[str, Any], sha256: str | None = None) -> bool:
        digest = bytes.fromhex(sha256) if sha256 else hashlib.sha256(content).digest()
        checksum = base64.b64encode(digest).decode()
        with translated(self._place, f"write {key}"):
            for pause_s in tries(_CONFLICT_PAUSES_S):
                try:
                    self._client.put_object(
                        Bucket=self._bucket,
                        Key=self._prefix + key,
                        Body=content if isinstance(content, bytes) else Body(content),
                        ChecksumSHA256=checksum,
                        **condition,
                    )
                    return True
                except ClientError as err:
                    code = str(err.response["Error"].get("Code"))
                    if code in ("PreconditionFailed", "412"):
                        return False
                    # Of two writes at once, S3 asks one to try again. A version that is gone cannot be replaced.
                    if code == "NoSuchKey" and "IfMatch" in condition:
                        return False
                    if code not in ("ConditionalRequestConflict", "409") or pause_s is None:
                        raise
        raise AssertionError("unreachable")
