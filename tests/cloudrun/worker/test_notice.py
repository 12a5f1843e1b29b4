"""A cloud's notice that it takes a machine back, from a server that answers as the clouds' own do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cloudrun.worker.notice import Notice, aws_takes_it_back, gcp_takes_it_back


class Metadata(ThreadingHTTPServer):
    """The metadata server of a machine; `notice` is what it says of the machine's end, None: 404."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.notice: str | None = None
        self.asked = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Metadata

    def do_PUT(self) -> None:
        assert self.path == "/latest/api/token"
        assert self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._answer(200, "a-token")

    def do_GET(self) -> None:
        self.server.asked += 1
        is_aws = self.path == "/latest/meta-data/spot/instance-action"
        if is_aws and self.headers["X-aws-ec2-metadata-token"] != "a-token":
            self._answer(401, "")
        elif not is_aws and self.headers["Metadata-Flavor"] != "Google":
            self._answer(403, "")
        elif self.server.notice is None:
            self._answer(404, "Not Found") if is_aws else self._answer(200, "FALSE")
        else:
            self._answer(200, self.server.notice)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    server = Metadata()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{server.address}/")
    monkeypatch.setenv("GCE_METADATA_HOST", server.address)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # which cannot reach that address, and is not asked
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


AWS_NOTICE = '{"action": "terminate", "time": "2026-11-28T08:22:00Z"}'


@pytest.mark.parametrize(
    ("said", "takes_it_back"),
    [(None, False), (AWS_NOTICE, True), ('{"action": "stop"}', True), ('{"action": "none"}', False), ("<html>", False),
     ("[]", False)],
)  # fmt: skip
def test_awss_notice_names_what_it_does(metadata: Metadata, said: str | None, takes_it_back: bool) -> None:
    metadata.notice = said
    assert aws_takes_it_back() == takes_it_back


@pytest.mark.parametrize(("said", "takes_it_back"), [(None, False), ("TRUE", True), ("true\n", True), ("?", False)])
def test_gcps_notice_is_a_word(metadata: Metadata, said: str | None, takes_it_back: bool) -> None:
    metadata.notice = said
    assert gcp_takes_it_back() == takes_it_back


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_a_notice_is_heard_soon_and_remembered(metadata: Metadata, cloud: str) -> None:
    notice = Notice(cloud, every_s=0.02)
    until = time.monotonic() + 10
    while metadata.asked < 3 and time.monotonic() < until:
        time.sleep(0.01)
    assert not notice.is_given
    metadata.notice = AWS_NOTICE if cloud == "aws" else "TRUE"
    while not notice.is_given and time.monotonic() < until:
        time.sleep(0.01)
    assert notice.is_given
    metadata.notice = None
    time.sleep(0.1)
    assert notice.is_given


def test_a_cloud_that_gives_no_notice_is_not_asked(metadata: Metadata) -> None:
    notice = Notice("runpod", every_s=0.01)
    time.sleep(0.1)
    assert (notice.is_given, metadata.asked) == (False, 0)


def test_a_server_that_is_away_is_no_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    notice = Notice("aws", every_s=0.01)
    time.sleep(0.2)
    assert not notice.is_given
