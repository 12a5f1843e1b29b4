"""An order for a worker whose job takes seconds."""

from __future__ import annotations

import sys
import time
from typing import Any

from cloudrun.protocol.order import Order, Step


def an_order(script: str, **changes: Any) -> Order:
    """Run `script` by bash on this computer; nothing is billed and nobody ends the machine, but for `changes`."""
    fields: dict[str, Any] = {
        "run_id": "r",
        "python": sys.executable,
        "gpu_count": 0,
        "gpu_names": [],
        "setup": [],
        "data_path": None,
        "data_arrives": False,
        "make_data": None,
        "command": Step("run", ["bash", "-c", script]),
        "env": {},
        "hourly_usd": 0.0,
        "max_cost_usd": 1.0,
        "max_hours": 1.0,
        "written_at": time.time(),
        "billed_s": 0.0,
        "spent_usd": 0.0,
        "idle_s": 60.0,
        "stall_s": 60.0,
        "ending": "nobody",
        "on_finish": "down",
    }
    return Order(**{**fields, **changes})
