"""Fetch a file from a web server, whatever becomes of the connection on the way; or look at its beginning alone."""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import ssl
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from cloudrun.files.untrusted import read_object
from cloudrun.retry import Backoff, doubled, tries
from cloudrun.sources import SourceProblem
from cloudrun.text.pace import Pace
from cloudrun.text.units import size

Say = Callable[[str], None]

_SILENCE_S = 30.0
_PIECE_BYTES = 256 * 1024
# Tries in a row that bring no byte: about two minutes.
_TRIES = 8
_LONGEST_PAUSE_S = 30.0
_MAGIC_BYTES = 512
_BUSY = (408, 425, 429)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to ask. `authorization` goes to this server alone, never to a server that it redirects to.

    `shown` is the address in messages; `explain` returns the error for an HTTP status, None for the general error.
    """

    url: str
    shown: str
    authorization: str | None = None
    explain: Callable[[int], SourceProblem | None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Seen:
    """What the first bytes of an answer tell; `version` changes with the file, None where the server does not say."""

    size_bytes: int | None
    start: bytes
    can_resume: bool
    version: str | None


class Transient(Exception):
    """A failure that may be over soon; `wait_s` is set where the server says how long to wait."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


def look(address: Address) -> Seen:
    """Ask for the first bytes alone, and return what they tell. Raises SourceProblem where they cannot be had."""
    with _patiently(address, {"Range": f"bytes=0-{_MAGIC_BYTES - 1}"}) as answer:
        start = _read(address, answer, _MAGIC_BYTES)
        is_part = answer.status == 206
        total = _total_of(answer) if is_part else _number(answer.headers.get("Content-Length"))
        return Seen(total, start, is_part, _version_of(answer))


def read_json(address: Address) -> Any:
    """Return the JSON at the address. Raises SourceProblem where it cannot be had, or is not JSON."""
    with _patiently(address, {"Accept": "application/json"}) as answer:
        try:
            return json.loads(_read(address, answer))
        except ValueError as err:
            raise SourceProblem(f"{address.shown} does not answer as its API should", hint="retry later") from err


def download(address: Address, target: Path, *, say: Say, pause_s: float = 1.0) -> None:
    """Fetch the file to `target`, which may hold its beginning from an earlier try, even one that was killed.

    The file `NAME.version` beside it has the version: a beginning is continued only while the server has that version.
    Raises SourceProblem where the file cannot be had, or is larger than the disk.
    """
    pace = Pace()
    backoff = Backoff(doubled(pause_s, _TRIES, longest_s=_LONGEST_PAUSE_S))
    while True:
        before = _size(target)
        try:
            _fetch_rest(address, target, say, pace)
        except Transient as err:
            if _size(target) > before:
                backoff.succeeded()
            elif backoff.failures == _TRIES:
                raise SourceProblem(
                    f"{address.shown} cannot be fetched: {err}", hint="check the server, or retry later"
                ) from err
            wait_s = min(err.wait_s or backoff.failed(), _LONGEST_PAUSE_S)
            say(f"{err}; going on in {wait_s:.0f} s")
            time.sleep(wait_s)
        else:
            total = _size(target)
            say(pace.text(total, total))
            return


def _read(address: Address, answer: http.client.HTTPResponse, size_bytes: int | None = None) -> bytes:
    try:
        return answer.read(size_bytes)
    except (OSError, http.client.HTTPException) as err:
        raise SourceProblem(f"{address.shown} breaks off: {_brief(err)}", hint="retry later") from err


class RangeFile(io.RawIOBase):
    """A file of a server that can be read at any place; every read is a request, `at_most` bytes in all."""

    def __init__(self, address: Address, size_bytes: int, *, at_most: int) -> None:
        self._address = address
        self._size = size_bytes
        self._left = at_most
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._place)
        if wanted <= 0:
            return 0
        if wanted > self._left:
            raise OSError("more of it would have to be read than is worth a look")
        with _patiently(self._address, {"Range": f"bytes={self._place}-{self._place + wanted - 1}"}) as answer:
            if answer.status != 206:
                raise OSError("the server gives no parts any more")
            content = _read(self._address, answer, wanted)
        buffer[: len(content)] = content
        self._left -= len(content)
        self._place += len(content)
        return len(content)


def _fetch_rest(address: Address, target: Path, say: Say, pace: Pace) -> None:
    noted = target.with_name(f"{target.name}.version")
    known = _read_known(noted)
    start = _size(target) if known is not None else 0
    if known is not None and start and known.size_bytes == start:
        return
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        answer = _ask(address, headers)
    except _PastEnd:
        target.unlink()
        raise Transient(f"{address.shown} is shorter than what has come of it") from None
    with answer:
        is_part = answer.status == 206
        total = _total_of(answer) if is_part else _number(answer.headers.get("Content-Length"))
        now = _Known(_version_of(answer), total)
        if is_part and (known != now or _start_of(answer) != start):
            target.unlink()
            raise Transient(f"{address.shown} has changed")
        if not is_part:
            start = 0  # the server gives only the whole file
            _refuse_without_room(address, target, total)
        noted.write_text(json.dumps(asdict(now)), encoding="utf-8")
        with target.open("ab") as file:
            file.truncate(start)
            if not start:
                say(f"{size(total)} from {address.shown}" if total is not None else f"from {address.shown}")
            elif not pace.has_begun:
                say(f"{size(total or 0)} from {address.shown}: {size(start)} are here already")
            _copy(answer, file, start, total, say, pace)
    if total is not None and _size(target) != total:
        raise Transient(f"the connection was cut at {size(_size(target))} of {size(total)}")


def _copy(  # noqa: PLR0913 - one transfer, with all that watches it
    answer: http.client.HTTPResponse, file: IO[bytes], start: int, total: int | None, say: Say, pace: Pace
) -> None:
    come = start
    pace.elapsed_s(come)
    while True:
        try:
            piece = answer.read(_PIECE_BYTES)
        except (OSError, http.client.HTTPException) as err:
            raise Transient(f"the connection was cut at {size(come)} ({_brief(err)})") from err
        if not piece:
            return
        file.write(piece)
        come += len(piece)
        if pace.is_due(come):
            say(pace.text(come, total) if total is not None else f"{size(come)} so far")


@dataclass(frozen=True, slots=True)
class _Known:
    version: str | None
    size_bytes: int | None


def _read_known(path: Path) -> _Known | None:
    try:
        return _Known(**(read_object(path) or {}))
    except TypeError:
        return None


def _refuse_without_room(address: Address, target: Path, total: int | None) -> None:
    free = shutil.disk_usage(target.parent).free + _size(target)
    if total is not None and total > free:
        raise SourceProblem(
            f"{address.shown} has {size(total)}, and {size(free)} of the disk are free",
            hint="ask for a larger disk: `resources: {disk: 200}` (GB)",
        )


class _PastEnd(Exception):
    """The file has no bytes at the offset that was asked for."""


def _patiently(address: Address, headers: dict[str, str]) -> http.client.HTTPResponse:
    """Ask three times, with pauses of about a second, since somebody may wait at a terminal. Raises SourceProblem."""
    for pause_s in tries((0.5, 1.5)):
        try:
            return _ask(address, headers)
        except Transient as err:
            if pause_s is None:
                raise SourceProblem(
                    f"{address.shown} cannot be reached: {err}", hint="is the address right, and is there a network?"
                ) from err
        except _PastEnd as err:
            raise SourceProblem(f"{address.shown} is empty", hint="is the address right?") from err
    raise AssertionError


def _ask(address: Address, headers: dict[str, str]) -> http.client.HTTPResponse:
    """Ask once. Raises Transient, _PastEnd, or SourceProblem where to ask again would change nothing."""
    request = urllib.request.Request(
        address.url, headers={"User-Agent": "cloudrun", "Accept-Encoding": "identity", **headers}
    )
    if address.authorization is not None:
        request.add_unredirected_header("Authorization", address.authorization)
    try:
        answer: http.client.HTTPResponse = urllib.request.build_opener(_StaysSafe()).open(request, timeout=_SILENCE_S)
    except HTTPError as err:
        with err:
            raise _refused(address, err) from None
    except (OSError, http.client.HTTPException) as err:
        reason = err.reason if isinstance(err, URLError) else err
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise SourceProblem(
                f"{address.shown} does not prove that it is {urlsplit(address.url).hostname}: {reason.verify_message}",
                hint="its certificate is not one that this computer trusts",
            ) from None
        raise Transient(_brief(reason)) from err
    return answer


def _refused(address: Address, err: HTTPError) -> Exception:
    if err.code == 416:
        return _PastEnd()
    if err.code in _BUSY or err.code >= 500:
        wait_s = _number(err.headers.get("Retry-After"))
        return Transient(f"the server answers {err.code} {err.reason}", None if wait_s is None else float(wait_s))
    return address.explain(err.code) or SourceProblem(
        f"{address.shown} cannot be had: the server answers {err.code} {err.reason}",
        hint="does the address open in a browser, without signing in?",
    )


class _StaysSafe(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to an address without encryption."""

    def redirect_request(  # noqa: PLR0913 - the signature of urllib
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            host = urlsplit(newurl).hostname
            raise SourceProblem(
                f"{urlsplit(req.full_url).hostname} sends us on to {host} without encryption",
                hint="name the last address itself, if you trust it",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _total_of(answer: http.client.HTTPResponse) -> int | None:
    """Return 1234 of `Content-Range: bytes 0-99/1234`; None where the server does not say."""
    return _number(str(answer.headers.get("Content-Range", "")).rpartition("/")[2])


def _start_of(answer: http.client.HTTPResponse) -> int | None:
    return _number(str(answer.headers.get("Content-Range", "")).partition(" ")[2].partition("-")[0])


def _version_of(answer: http.client.HTTPResponse) -> str | None:
    """Return the file's strong ETag, else the time of its last change; None where the server says neither."""
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdigit() else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _brief(err: object) -> str:
    if isinstance(err, TimeoutError):
        return f"no answer in {_SILENCE_S:.0f} s"
    return (err.strerror if isinstance(err, OSError) else None) or str(err) or type(err).__name__
