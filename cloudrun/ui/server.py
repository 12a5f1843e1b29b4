"""Serve the pages over HTTP on the loopback, with the standard library: GET alone, and nothing without the token."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, urlsplit

from cloudrun.errors import UsageError
from cloudrun.ui.access import HOST, Access, is_embedded_elsewhere, is_our_host
from cloudrun.ui.site import Answer, Site, message

log = logging.getLogger(__name__)

_USUAL_PORT = 8717
_CONNECTIONS = 64  # at once
_REQUEST_S = 30.0  # a browser has this long to ask
_LONGEST_QUERY = 8192
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# `style-src-attr`: the width of a bar stands in its element. Scripts and style sheets are files of ours.
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """Answers with the pages of `site` whoever has the token of `access`."""

    daemon_threads = True  # a page that goes on does not keep the command from ending
    allow_reuse_address = True
    request_queue_size = 32

    def __init__(self, port: int, open_site: Callable[[], Site]) -> None:
        """Listen on `port` of the loopback; 0: any free one. Raises OSError where the port is taken."""
        super().__init__((HOST, port), _Handler)
        self.access = Access(self.server_address[1])
        self.site = open_site()
        self._places = threading.BoundedSemaphore(_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a connection ended", exc_info=True)


@contextmanager
def serving(port: int | None, open_site: Callable[[], Site]) -> Iterator[Server]:
    """Serve in a thread while the block runs. `port` None: the usual one, else any that is free.

    Raises UsageError where the port is taken or may not be used.
    """
    server = _listening(port, open_site)
    thread = threading.Thread(target=server.serve_forever, name="pages", daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        server.site.close()


def _listening(port: int | None, open_site: Callable[[], Site]) -> Server:
    for tried in (_USUAL_PORT, 0) if port is None else (port,):
        try:
            return Server(tried, open_site)
        except OSError as err:
            if port is None and tried and err.errno in (errno.EADDRINUSE, errno.EACCES):
                continue
            raise UsageError(
                f"port {tried} of {HOST} cannot be used: {err.strerror}",
                hint="another one: `cloudrun ui --port 8800`; without `--port` a free one is taken",
            ) from None
    raise AssertionError("a free port is always found, or its error raised")


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "cloudrun"
    sys_version = ""
    timeout = _REQUEST_S
    _said: ClassVar[Mapping[int, str]] = {
        401: "Open the address that `cloudrun ui` printed: it holds the key to these pages.",
        403: "These pages are for this computer alone, under the address that `cloudrun ui` printed.",
        405: "These pages can only be read.",
    }

    def do_GET(self) -> None:
        hosts = self.headers.get_all("Host") or []
        is_elsewhere = is_embedded_elsewhere(self.headers.get("Sec-Fetch-Site"), self.headers.get("Sec-Fetch-Mode"))
        if not is_our_host(hosts) or is_elsewhere:
            return self._refuse(403)
        if not self.path.startswith("/") or self.path.startswith("//"):
            return self._refuse(400)
        parts = urlsplit(self.path)
        query = parse_qs(parts.query[:_LONGEST_QUERY], max_num_fields=100)
        tokens = query.get("token")
        if tokens is not None:
            return self._let_in(parts.path) if self.server.access.is_token(tokens[0]) else self._refuse(401)
        if not self.server.access.has_cookie(self.headers.get("Cookie") or ""):
            return self._refuse(401)
        try:
            found = self.server.site.answer(parts.path, query, self.headers.get("Last-Event-ID"))
        except Exception:
            log.exception("no answer to %s", parts.path)
            found = message(500, "A bug", "This page cannot be made; `cloudrun report` may still write its file.")
        return self._send(found)

    def __getattr__(self, name: str) -> Any:
        """Refuse every other method: `do_POST`, `do_PUT` and whatever else is asked for."""
        if name.startswith("do_"):
            return lambda: self._refuse(405)
        raise AttributeError(name)

    def _let_in(self, path: str) -> None:
        """Put the token into a cookie, and take it out of the address and the history."""
        where = quote(path, safe="/")  # a backslash would make another host of it
        self._send(Answer(status=303, headers={"Location": where, "Set-Cookie": self.server.access.cookie}))

    def _refuse(self, status: int) -> None:
        text = self._said.get(status, "This request is not understood.")
        self._send(Answer(f"{text}\n".encode(), status, "text/plain; charset=utf-8"))

    def _send(self, found: Answer) -> None:
        self.close_connection = True  # what else the request may carry is not read
        self.send_response(found.status)
        for name, value in {**_HEADERS, **found.headers}.items():
            self.send_header(name, value)
        if found.status == 405:
            self.send_header("Allow", "GET")
        if found.status != 204:
            self.send_header("Content-Type", found.kind)
        if found.parts is None and found.status != 204:
            self.send_header("Content-Length", str(len(found.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            self.wfile.write(found.body if self.command != "HEAD" else b"")
            for part in found.parts or ():
                self.wfile.write(part)
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            log.debug("the browser has gone")

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Write no line for a request: its address may hold the token."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that the standard library calls
        log.debug("a request was not understood")
