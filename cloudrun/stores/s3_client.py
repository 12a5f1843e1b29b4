"""Make botocore's client for a bucket, and turn its errors into StoreError; every module that speaks S3 uses this."""

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
    """Return a client for `place` with the credentials of this shell. It may be used from several threads.

    Raises StoreError where the endpoint is not a URL.
    """
    session = botocore.session.get_session()  # boto3 itself would load its transfers, too, for a quarter of a second
    # An endpoint that is not AWS seldom looks at the region, but each request is signed for a region.
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
    except ValueError as err:  # what botocore raises where the endpoint is not a URL
        raise StoreError(f"{place.endpoint} is not an endpoint", hint="write https://HOST or http://HOST:PORT") from err
    # `Expect: 100-continue` costs a round trip for each upload.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    return client


@contextmanager
def translated(place: S3Place, what: str) -> Iterator[None]:
    """Turn what botocore raises into a StoreError about this bucket; `what` is the action, as `write log.txt`."""
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
