"""A provider of machines: a real HTTP server on this computer that answers in the providers' shapes."""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Provider:
    """Answers every request with `status` and `body`, and keeps what it was asked."""

    url: str = ""
    status: int = 200
    body: bytes = b"{}"
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Provider]:
    known = Provider()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urllib.parse.urlsplit(self.path)
            self._answer(parts.path, json.loads(urllib.parse.parse_qs(parts.query)["q"][0]))

        def do_POST(self) -> None:
            self._answer(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, path: str, asked: dict[str, Any]) -> None:
            known.asked.append((path, asked))
            known.headers.append(dict(self.headers))
            self.send_response(known.status)
            self.end_headers()
            self.wfile.write(known.body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    known.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()


def runpod(*rows: tuple[str, float | None, float | None]) -> bytes:
    """RunPod's answer: (displayed name, price, spot price), of one GPU and hour."""
    types = [
        {"displayName": name, "lowestPrice": {"uninterruptablePrice": price, "minimumBidPrice": bid}}
        for name, price, bid in rows
    ]
    return json.dumps({"data": {"gpuTypes": types}}).encode()
