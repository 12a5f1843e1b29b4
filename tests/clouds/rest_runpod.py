"""Stand in for RunPod's public price list, at its own address; pods are in `runpod_box`. See `rest_provider`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.clouds.rest_provider import Asked
from tests.support.live_provider import runpod


class Runpod:
    """Prices that anybody may read."""

    HOST = "api.runpod.io"

    def write_key(self, home: Path, key: str) -> None:
        """Write nothing: the price list is public, and needs no key."""

    def answer(self, asked: Asked) -> tuple[int, Any]:
        if (asked.method, asked.path, asked.bearer) != ("POST", "/graphql", "") or "gpuTypes" not in asked.body[
            "query"
        ]:
            return 400, {"errors": [{"message": "this request is not known here"}]}
        return 200, json.loads(runpod(("RTX 4090", 0.81, 0.4), ("A100 PCIe", 1.19, 0.6)))

    def look(self, home: Path) -> dict[str, Any]:
        from cloudrun.backends.live_price import live_price
        from tests.support.runs import a_runpod_quote

        quote = a_runpod_quote("RTX4090:1", 0.69)
        live = live_price(quote)
        return {"hourly_usd": live.hourly_usd, "why": live.why, "is_called_out": live.is_called_out(quote)}
