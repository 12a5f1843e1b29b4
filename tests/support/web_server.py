"""A web server for the tests, on loopback: files with ranges and versions, and what goes wrong with them."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Served:
    """One file, and how it is given out. `cuts`: bytes after which each of the next answers breaks off."""

    content: bytes
    version: str | None = '"1"'
    gives_ranges: bool = True
    says_length: bool = True
    claims_bytes: int | None = None
    cuts: list[int] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)  # statuses of the next answers
    pause_s: float = 0.0  # between pieces of 64 kB


@dataclass(frozen=True)
class Asked:
    path: str
    range: str | None
    authorization: str | None


Route = Callable[["Handler"], bool]


class WebServer:
    """Serves `files` by path; `route` may answer first."""

    def __init__(self, *, certificate: Path | None = None, route: Route | None = None) -> None:
        self.files: dict[str, Served] = {}
        self.asked: list[Asked] = []
        self.route = route
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # so that closing waits for them, and no socket is left open
        self._server.owner = self  # type: ignore[attr-defined]
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://localhost:{self._server.server_address[1]}"

    @property
    def sent_ranges(self) -> list[str | None]:
        return [one.range for one in self.asked]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        owner: WebServer = self.server.owner  # type: ignore[attr-defined]
        owner.asked.append(Asked(self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        if owner.route is not None and owner.route(self):
            return
        served = owner.files.get(self.path)
        if served is None:
            self.answer(404, b"nothing here")
        elif served.refusals:
            self.answer(served.refusals.pop(0), b"not now")
        else:
            self._give(served)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _give(self, served: Served) -> None:
        content, asked = served.content, self.headers.get("Range")
        total = served.claims_bytes or len(content)
        start, end = 0, total
        if asked and served.gives_ranges:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1, total) if last else total
            if start >= total:
                self.answer(416, b"", Content_Range=f"bytes */{total}")
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{total}")
        else:
            self.send_response(200)
        if served.version is not None:
            self.send_header("ETag", served.version)
        if served.says_length:
            self.send_header("Content-Length", str(end - start))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self._write(content[start:end], served)
        if start + len(content[start:end]) < end:
            self.close_connection = True

    def _write(self, body: bytes, served: Served) -> None:
        if len(body) > 1000 and served.cuts:  # a look at the first bytes is let through
            body = body[: served.cuts.pop(0)]
            self.close_connection = True
        for place in range(0, len(body), 65536):
            try:
                self.wfile.write(body[place : place + 65536])
            except OSError:
                return  # nobody listens any more
            time.sleep(served.pause_s)
