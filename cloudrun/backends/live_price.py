"""Ask a provider for its own price of now, to compare with SkyPilot's catalog, which may be hours or months old.

A price that cannot be had never fails a launch: the reason is shown instead. No credential is sent. Requests and
answers have the form of the providers' public search APIs, as SkyPilot 0.14 (`catalog/data_fetchers/fetch_runpod.py`)
and Vast's client (vastai-sdk 0.2.5, `search__offers`) use them; tested against a local server, not the providers.
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from cloudrun.catalog.gpus import MEMORY_GB, parse_gpu
from cloudrun.state.records import Quote

_TIMEOUT_S = 5.0
_LARGEST_ANSWER_BYTES = 20_000_000
# A quote that differs by more than this part from the provider's price is warned of.
_CALLED_OUT = 0.10
_RUNPOD_QUERY = """\
query { gpuTypes { displayName lowestPrice(input: {gpuCount: COUNT, secureCloud: true}) \
{ minimumBidPrice uninterruptablePrice } } }"""  # SkyPilot rents in the secure cloud alone
# Vast's names of GPUs, where they are not SkyPilot's with a space after `RTX`. The memory tells variants apart.
_VAST_NAMES = {
    "A100": ["A100 PCIE", "A100 SXM4"],
    "A100-80GB": ["A100 PCIE", "A100 SXM4"],
    "H100": ["H100 PCIE", "H100 SXM"],
    "H100-SXM": ["H100 SXM"],
    "H100-NVL": ["H100 NVL"],
    "H200-SXM": ["H200"],
    "P100": ["Tesla P100"],
    "T4": ["Tesla T4"],
    "V100": ["Tesla V100"],
    "V100-32GB": ["Tesla V100"],
}


@dataclass(frozen=True, slots=True)
class LivePrice:
    """The USD an hour of the provider's cheapest machine with the quoted GPUs; None, and `why`, where not known."""

    hourly_usd: float | None
    why: str = ""

    def text(self, quote: Quote) -> str:
        """Return a text such as `$0.34 an hour, asked of runpod just now: 51 % below the quoted $0.69`."""
        if self.hourly_usd is None:
            return f"no live quote: {self.why}"
        off = abs(self._off(quote))
        side = "below" if self._off(quote) < 0 else "above"
        differs = f"{off:.0%} {side} the quoted ${quote.hourly_usd:.4f}" if off >= 0.005 else "as quoted"
        return f"${self.hourly_usd:.4f} an hour, asked of {quote.infra} just now: {differs}"

    def is_called_out(self, quote: Quote) -> bool:
        """Return whether the quote is so far from this price that the user has to be warned."""
        return self.hourly_usd is not None and abs(self._off(quote)) > _CALLED_OUT

    def _off(self, quote: Quote) -> float:
        return (self.hourly_usd or 0.0) / quote.hourly_usd - 1 if quote.hourly_usd else 0.0


def live_price(quote: Quote) -> LivePrice:
    """Ask the provider of `quote` for its price, for at most five seconds. Raises nothing for a provider's failure."""
    if quote.infra not in ("runpod", "vast"):
        return LivePrice(None, f"{quote.infra} has none that can be asked without an account")
    if quote.gpu is None or "," in quote.gpu:
        return LivePrice(None, "it is asked for GPUs alone")
    request = parse_gpu(quote.gpu)
    ask = _runpod_price if quote.infra == "runpod" else _vast_price
    try:
        hourly_usd = ask(request.name, request.count, spot=quote.spot)
    except (OSError, ValueError, urllib.error.URLError) as err:
        return LivePrice(None, f"{quote.infra} did not answer: {getattr(err, 'reason', None) or err}")
    except (KeyError, TypeError, AttributeError, IndexError) as err:
        return LivePrice(None, f"{quote.infra}'s answer is not what it used to be: {err!r}")
    if hourly_usd is None:
        return LivePrice(None, f"{quote.infra} has no {quote.gpu} free now")
    return LivePrice(hourly_usd * quote.nodes)


def _runpod_price(gpu: str, count: int, *, spot: bool) -> float | None:
    """Return RunPod's price of a machine; RunPod lists the price of one GPU, a machine costs `count` times as much."""
    base = os.environ.get("CLOUDRUN_RUNPOD_URL", "https://api.runpod.io")
    body = json.dumps({"query": _RUNPOD_QUERY.replace("COUNT", str(count))}).encode()
    answer = _fetch(f"{base}/graphql", body)
    key = "minimumBidPrice" if spot else "uninterruptablePrice"
    prices = [
        row["lowestPrice"][key]
        for row in answer["data"]["gpuTypes"]
        if _runpod_name(row["displayName"]) == gpu and row["lowestPrice"] and row["lowestPrice"][key]
    ]
    return min(prices) * count if prices else None


def _runpod_name(displayed: str) -> str:
    """Return SkyPilot's name of a GPU: `RTX 4090` -> `RTX4090`, `A100 SXM` -> `A100-80GB-SXM`."""
    name = displayed.replace("RTX PRO ", "RTXPRO").replace("RTX ", "RTX").replace(" ", "-")
    return {"A100-PCIe": "A100-80GB", "A100-SXM": "A100-80GB-SXM", "H100-PCIe": "H100"}.get(name, name)


def _vast_price(gpu: str, count: int, *, spot: bool) -> float | None:
    base = os.environ.get("CLOUDRUN_VAST_URL", "https://console.vast.ai")
    wanted = {
        "gpu_name": {"in": _VAST_NAMES.get(gpu) or [re.sub("-Ada$", "Ada", re.sub("^RTX", "RTX ", gpu))]},
        "num_gpus": {"eq": count},
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "inet_down": {"gte": 100},  # as in SkyPilot's catalog
        "disk_space": {"gte": 80},
        "order": [["dph_total", "asc"]],
        "type": "bid" if spot else "on-demand",
    }
    answer = _fetch(f"{base}/api/v0/bundles/", json.dumps(wanted).encode())
    memory_gb = MEMORY_GB.get(gpu)
    prices = [
        row["min_bid"] if spot else row["dph_total"]
        for row in answer["offers"]
        if memory_gb is None or abs(row["gpu_ram"] / 1024 / memory_gb - 1) < 0.2
    ]
    return min(prices) if prices else None


def _fetch(url: str, body: bytes) -> Any:
    if not url.startswith(("https://", "http://127.0.0.1")):
        raise ValueError(f"{url} is not https")
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "cloudrun"}
    request = urllib.request.Request(url, data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
        return json.loads(answer.read(_LARGEST_ANSWER_BYTES))
