"""The provider's own price, asked of a real HTTP server that answers in the providers' shapes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from cloudrun.backends.live_price import live_price
from cloudrun.state.records import Quote
from tests.support.live_provider import Provider, runpod, serving


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with serving() as known:
        for name in ("CLOUDRUN_RUNPOD_URL", "CLOUDRUN_VAST_URL"):
            monkeypatch.setenv(name, known.url)
        yield known


def quote(
    infra: str = "runpod", gpu: str | None = "RTX4090:1", hourly_usd: float = 0.69, *, spot: bool = False
) -> Quote:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    return Quote(
        machine="m", infra=infra, region=None, gpu=gpu, spot=spot, hourly_usd=hourly_usd, source="s", as_of=now
    )


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
