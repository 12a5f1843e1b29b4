"""The provider's own price, asked of a real HTTP server that answers in the providers' shapes."""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cloudrun.backends.live_price import live_price
from cloudrun.run import Quote


@dataclass
class Provider:
    """Answers every request with `status` and `body`, and keeps what it was asked."""

    url: str = ""
    status: int = 200
    body: bytes = b"{}"
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
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
    for name in ("CLOUDRUN_RUNPOD_URL", "CLOUDRUN_VAST_URL"):
        monkeypatch.setenv(name, known.url)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield known
    server.shutdown()
    server.server_close()


def quote(
    infra: str = "runpod", gpu: str | None = "RTX4090:1", hourly_usd: float = 0.69, *, spot: bool = False
) -> Quote:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    return Quote(
        machine="m", infra=infra, region=None, gpu=gpu, spot=spot, hourly_usd=hourly_usd, source="s", as_of=now
    )


def runpod(*rows: tuple[str, float | None, float | None]) -> bytes:
    types = [
        {"displayName": name, "lowestPrice": {"uninterruptablePrice": price, "minimumBidPrice": bid}}
        for name, price, bid in rows
    ]
    return json.dumps({"data": {"gpuTypes": types}}).encode()


RUNPOD = runpod(("RTX 4090", 0.34, 0.2), ("A100 PCIe", 1.19, 0.6), ("A100 SXM", 1.39, 0.7), ("RTX 3090", None, None))
VAST = json.dumps(
    {
        "offers": [
            {"gpu_name": "A100 SXM4", "gpu_ram": 81920, "dph_total": 1.1, "min_bid": 0.5},
            {"gpu_name": "A100 PCIE", "gpu_ram": 40960, "dph_total": 0.62, "min_bid": 0.3},
            {"gpu_name": "A100 PCIE", "gpu_ram": 40960, "dph_total": 0.6, "min_bid": 0.31},
        ]
    }
).encode()


@pytest.mark.parametrize(
    ("gpu", "spot", "hourly_usd"),
    [
        ("RTX4090:1", False, 0.34),
        ("RTX4090:1", True, 0.2),
        ("A100-80GB:2", False, 2.38),
        ("A100-80GB-SXM:1", False, 1.39),
    ],
)
def test_runpods_lowest_price_is_found_by_skypilots_name(
    provider: Provider, gpu: str, spot: bool, hourly_usd: float
) -> None:
    provider.body = RUNPOD
    assert live_price(quote(gpu=gpu, spot=spot)).hourly_usd == pytest.approx(hourly_usd)
    path, asked = provider.asked[0]
    assert path == "/graphql"
    assert f"lowestPrice(input: {{gpuCount: {gpu[-1]}, secureCloud: true}})" in asked["query"]


@pytest.mark.parametrize(
    ("gpu", "spot", "hourly_usd"), [("A100:1", False, 0.6), ("A100:1", True, 0.3), ("A100-80GB:1", False, 1.1)]
)
def test_vasts_cheapest_offer_with_that_memory_is_found(
    provider: Provider, gpu: str, spot: bool, hourly_usd: float
) -> None:
    provider.body = VAST
    assert live_price(quote("vast", gpu=gpu, spot=spot)).hourly_usd == hourly_usd
    path, asked = provider.asked[0]
    assert path == "/api/v0/bundles/"
    assert asked["gpu_name"] == {"in": ["A100 PCIE", "A100 SXM4"]}
    assert asked["num_gpus"] == {"eq": 1}


def test_a_catalog_that_is_more_than_a_tenth_off_is_called_out(provider: Provider) -> None:
    provider.body = RUNPOD
    live = live_price(quote(hourly_usd=0.69))
    assert live.is_called_out(quote(hourly_usd=0.69))
    assert live.text(quote(hourly_usd=0.69)) == (
        "$0.3400 an hour, asked of runpod just now: 51% below the quoted $0.6900"
    )
    assert not live.is_called_out(quote(hourly_usd=0.36))
    assert live.text(quote(hourly_usd=0.34)).endswith("just now: as quoted")


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (500, b"", "did not answer: Internal Server Error"),
        (200, b"<html>", "did not answer: Expecting value"),
        (200, b'{"errors": []}', "runpod's answer is not what it used to be: KeyError('data')"),
        (200, RUNPOD.replace(b"RTX 4090", b"RTX 9999"), "runpod has no RTX4090:1 free now"),
    ],
)
def test_a_provider_that_cannot_tell_is_no_reason_to_fail(
    provider: Provider, status: int, body: bytes, why: str
) -> None:
    provider.status, provider.body = status, body
    live = live_price(quote())
    assert live.hourly_usd is None
    assert why in live.why
    assert live.text(quote()).startswith("no live quote: ")
    assert not live.is_called_out(quote())


def test_a_provider_that_is_not_there_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDRUN_VAST_URL", "http://127.0.0.1:9")
    assert "vast did not answer" in live_price(quote("vast")).why


@pytest.mark.parametrize(("infra", "gpu"), [("aws", "A100:1"), ("runpod", None)])
def test_others_have_no_live_quote(provider: Provider, infra: str, gpu: str | None) -> None:
    assert live_price(quote(infra, gpu)).hourly_usd is None
    assert provider.asked == []


def test_no_credential_is_sent(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", "s3cret")
    provider.body = RUNPOD
    live_price(quote())
    assert "s3cret" not in str(provider.headers) + str(provider.asked)
