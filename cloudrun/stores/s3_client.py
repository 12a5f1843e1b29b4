"""boto3's client for a bucket, and its errors as ours: what every module that speaks S3 starts from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own, and no relative of Python's
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.handlers import add_expect_header

from cloudrun.errors import StoreError
from cloudrun.stores.s3_errors import S3Place, refused, unreachable, without_credentials

CONNECT_S, READ_S = 5.0, 20.0
_TRIES = 3


def make_client(place: S3Place, *, read_timeout_s: float = READ_S, connections: int = 16) -> Any:
    """A client for `place` with the credentials of this shell. It may be used from several threads.

    Raises StoreError where the endpoint is no URL.
    """
    session = botocore.session.get_session()  # boto3 itself would load its transfers, too, for a quarter of a second
    # An endpoint of one's own seldom cares for the region, but a request is signed for one.
    region = session.get_config_variable("region") or ("us-east-1" if place.endpoint else None)
    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=read_timeout_s,
        retries={"total_max_attempts": _TRIES, "mode": "standard"},
        max_pool_connections=connections,
        tcp_keepalive=True,
        # Each of our uploads carries a checksum that we chose; boto3 would add one, in a slower encoding.
        request_checksum_calculation="when_required",
    )
    try:
        client = session.create_client("s3", endpoint_url=place.endpoint, region_name=region, config=config)
    except ValueError as err:  # boto3's word on a URL that is none
        raise StoreError(f"{place.endpoint} is not an endpoint", hint="write https://HOST or http://HOST:PORT") from err
    # `Expect: 100-continue` costs a round trip for each upload.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    return client


@contextmanager
def translated(place: S3Place, what: str) -> Iterator[None]:
    """What boto3 raises while it does `what` (`write log.txt`), as a StoreError about this bucket."""
    try:
        yield
    except ClientError as err:
        raise refused(place, what, err.response) from err
    except (NoCredentialsError, PartialCredentialsError) as err:
        raise without_credentials(place, str(err)) from err
    except (ConnectionError, HTTPClientError) as err:
        raise unreachable(place, what, err) from err
    except BotoCoreError as err:
        raise StoreError(
            f"cannot {what} in bucket `{place.bucket}`: {err}", hint="are `store` and `endpoint` as they should be?"
        ) from err
    except OSError as err:
        raise StoreError(
            f"cannot {what}: {err.strerror or err}", hint="run the same command again once that is fixed"
        ) from err
