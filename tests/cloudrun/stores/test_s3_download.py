"""An object in ranges, from a server that breaks off: what did not come is never noted as done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, EndpointConnectionError

from cloudrun.stores import s3_download
from cloudrun.stores.ranges import note_of
from cloudrun.stores.s3_download import download_in_ranges


class Body:
    """An answer that ends after `content`."""

    def __init__(self, content: bytes) -> None:
        self._left = content

    def readinto(self, buffer: memoryview) -> int:
        piece, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Nothing is held."""


class Server:
    """An object of two ranges of four bytes; `answer` gives the bytes for a range's first byte."""

    def __init__(self, answer: Callable[[int], bytes]) -> None:
        self._answer = answer

    def head_object(self, **_: str) -> dict[str, object]:
        return {"ContentLength": 8, "ETag": "one"}

    def get_object(self, *, Range: str, **_: str) -> dict[str, Body]:
        return {"Body": Body(self._answer(int(Range.removeprefix("bytes=").partition("-")[0])))}


@pytest.fixture(autouse=True)
def _small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_download, "_RANGE_BYTES", 4)
    monkeypatch.setattr(s3_download, "_PAUSES_S", (0.0, 0.0))


def test_a_range_that_always_breaks_off_is_an_error(tmp_path: Path) -> None:
    server = Server(lambda begin: b"abcd" if begin == 0 else b"")
    with pytest.raises(BotoCoreError):
        download_in_ranges(server, "bucket", "best.pt", tmp_path / "best.pt")
    assert note_of(tmp_path / "best.pt").read_text().splitlines()[1:] == ["0."]


def test_a_range_that_is_given_up_since_another_failed_is_not_done(tmp_path: Path) -> None:
    def answer(begin: int) -> bytes:
        if begin == 0:
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
        return b""

    with pytest.raises(EndpointConnectionError):
        download_in_ranges(Server(answer), "bucket", "best.pt", tmp_path / "best.pt")
    assert note_of(tmp_path / "best.pt").read_text().splitlines()[1:] == []


def test_what_broke_off_goes_on_from_its_byte(tmp_path: Path) -> None:
    content = b"abcdefgh"
    server = Server(lambda begin: content[begin : begin + 2])
    download_in_ranges(server, "bucket", "best.pt", tmp_path / "best.pt")
    assert (tmp_path / "best.pt").read_bytes() == content
