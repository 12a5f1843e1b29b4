"""Name the data that the machine fetches by itself: their bytes never pass through this computer.

SOURCE                                 fetched from
https://host/data.zip[#sha256=HEX]     a server, with resume; .zip, .tar, .tar.gz, .tar.bz2, .tar.xz
kaggle://competitions/NAME             Kaggle, with the user's own token
kaggle://datasets/OWNER/NAME           the same
s3://bucket/prefix                     a bucket, an object a file
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cloudrun.errors import CloudrunError


class SourceProblem(CloudrunError):
    """The source of the data is not valid, refuses, or does not have what is asked for."""


@dataclass(frozen=True, slots=True)
class Source:
    """A `data.source` that is not a folder. `sha256` is that of its archive, where the URL says it; else None."""

    text: str
    scheme: str
    rest: str
    sha256: str | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.rest}"


def parse_source(text: str) -> Source:
    """Return the source that `text` names. Raises SourceProblem where the machine could not fetch it."""
    scheme, _, rest = text.partition("://")
    match scheme:
        case "https" | "http":
            return _archive(text, scheme, rest)
        case "kaggle":
            if not re.fullmatch(r"competitions/[\w-]+|datasets/[\w-]+/[\w-]+(/versions/\d+)?", rest):
                raise SourceProblem(
                    f"{text} names nothing of Kaggle's",
                    hint="write kaggle://competitions/NAME or kaggle://datasets/OWNER/NAME, as in the page's address",
                )
        case "s3":
            if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]*)?", rest):
                raise SourceProblem(f"{text} is no bucket", hint="write s3://BUCKET/PREFIX")
        case _:
            raise SourceProblem(
                f"{text} is not a source that a machine can get", hint="use https://, kaggle:// or s3://"
            )
    return Source(text, scheme, rest)


def _archive(text: str, scheme: str, rest: str) -> Source:
    rest, found, fragment = rest.partition("#")
    host = rest.split("/")[0].split("?")[0]
    if "@" in host:
        raise SourceProblem(
            f"{scheme}://...@{host.rpartition('@')[2]} has a password in it, which would be kept in the ledger",
            hint="use an address that is signed for a time, or put the data into a bucket of your own: s3://",
        )
    if not host:
        raise SourceProblem(f"{text} names no server", hint="write https://HOST/data.zip")
    if not found:
        return Source(text, scheme, rest)
    key, _, value = fragment.partition("=")
    if key != "sha256" or not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise SourceProblem(
            f"`#{fragment}` at the end of {scheme}://{rest} is not understood",
            hint="write #sha256= and the 64 hexadecimal digits that `sha256sum` prints",
        )
    return Source(text, scheme, rest, value.lower())
