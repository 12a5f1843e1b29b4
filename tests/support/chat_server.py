"""Stand-ins of the chat services on loopback: each takes a message only in its service's own form, as that answers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

SECRET = "SEC000111"


@dataclass
class Posted:
    path: str
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ChatServer:
    """`posted`: all that came, in order. `statuses`: what the next answers are, before it answers as the service."""

    posted: list[Posted] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    hangs_s: float = 0.0

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.owner = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        owner: ChatServer = self.server.owner  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        owner.posted.append(Posted(self.path, body, dict(self.headers)))
        owner.over.wait(owner.hangs_s)
        status, answer = 200, b"ok"
        if owner.statuses:
            status = owner.statuses.pop(0)
        elif self.path.startswith("/feishu"):
            answer = _feishu(json.loads(body))
        elif self.path.startswith("/dingtalk"):
            answer = _dingtalk(self.path, json.loads(body))
        elif self.path.startswith("/wecom"):
            content = json.loads(body)
            is_right = content["msgtype"] == "text" and 0 < len(content["text"]["content"].encode()) <= 2048
            answer = _coded("errcode", 0 if is_right else 40008)
        try:
            self.send_response(status)
            self.send_header("Location", f"{owner.url}/elsewhere")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
        except OSError:
            return  # nobody waits any more

    def log_message(self, *_: object) -> None:
        """Quiet."""


def _feishu(content: dict[str, Any]) -> bytes:
    """Answer as Feishu does with signatures on: the key is the time and the secret, and the message is empty."""
    key = f"{content.get('timestamp')}\n{SECRET}".encode()
    wanted = base64.b64encode(hmac.new(key, digestmod=hashlib.sha256).digest()).decode()
    is_recent = abs(time.time() - float(content.get("timestamp", 0))) < 3600
    if content.get("sign") != wanted or not is_recent:
        return _coded("code", 19021)
    return _coded("code", 0 if content["msg_type"] == "text" and content["content"]["text"] else 9499)


def _dingtalk(path: str, content: dict[str, Any]) -> bytes:
    """Answer as DingTalk does with signatures on: the key is the secret, and the message is the time in ms and it."""
    query = parse_qs(urlsplit(path).query)
    stamp = query.get("timestamp", ["0"])[0]
    wanted = base64.b64encode(hmac.new(SECRET.encode(), f"{stamp}\n{SECRET}".encode(), hashlib.sha256).digest())
    is_recent = abs(time.time() * 1000 - float(stamp)) < 3_600_000
    if query.get("sign") != [wanted.decode()] or query.get("access_token") != ["TOKEN"] or not is_recent:
        return _coded("errcode", 310000)
    return _coded("errcode", 0 if content["msgtype"] == "text" and content["text"]["content"] else 40035)


def _coded(name: str, code: int) -> bytes:
    return json.dumps({name: code, "msg": "ok" if code == 0 else "no"}).encode()
