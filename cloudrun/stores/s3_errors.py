"""Turn the refusal of a bucket's server into an error that names the bucket and the next step. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloudrun.errors import StoreError

_WRONG_KEY = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthorizationHeaderMalformed")
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired")
# What a server says while it starts, or has too much to do.
_OWN_FAULT = ("InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "500", "502", "503", "504")
_DAMAGED = ("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch")


class StoreUnavailable(StoreError):
    """The bucket's server does not answer, or says that the fault is its own; a moment later it may work."""


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket and the server that holds it; `endpoint` is None for AWS."""

    bucket: str
    endpoint: str | None

    def __str__(self) -> str:
        return f"bucket `{self.bucket}` at {self.endpoint or 'AWS'}"


def refused(place: S3Place, what: str, response: Mapping[str, Any]) -> StoreError:
    """Return the error for a server's refusal; `what` is the action, as `write log.txt`."""
    error = response.get("Error", {})
    code, said = str(error.get("Code", "")), str(error.get("Message", "")).strip().rstrip(".")
    if code == "NoSuchBucket":
        return StoreError(f"there is no {place}", hint="make it first, or correct `store` in the job file")
    if code in _WRONG_KEY:
        return StoreError(
            f"{place} does not accept these credentials ({code})",
            hint="check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, and AWS_DEFAULT_REGION",
        )
    if code in _EXPIRED:
        return StoreError(
            f"the credentials for {place} have expired ({code})", hint="sign in again, or use a long-lived key"
        )
    if code in ("AccessDenied", "403", "AllAccessDisabled"):
        return StoreError(
            f"{place} does not allow these credentials to {what}",
            hint="they need s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject there",
        )
    if code in _DAMAGED:
        return StoreError(f"{place} refused to {what}: it arrived damaged", hint="run the same command again")
    kind = StoreUnavailable if code in _OWN_FAULT else StoreError
    return kind(f"{place} refused to {what}: {code}: {said}", hint="run the same command again later")


def without_credentials(place: S3Place, said: str) -> StoreError:
    """Return the error for missing credentials; `said` is botocore's message."""
    return StoreError(
        f"there are no credentials for {place}: {said[:1].lower()}{said[1:]}",
        hint="`export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...`, or `aws configure`",
    )


def unreachable(place: S3Place, what: str, err: BaseException) -> StoreUnavailable:
    """Return the error for a server that does not answer; `what` is the action, as `write log.txt`."""
    return StoreUnavailable(
        f"cannot {what}: {place} does not answer ({type(err).__name__})",
        hint="is there a network, and is `endpoint` right? then run the same command again",
    )
