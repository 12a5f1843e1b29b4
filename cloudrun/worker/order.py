"""What the launch asks of the worker: `order.json`, and the budget's arithmetic."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Step:
    """One command. The words `{python}`, `{data}`, `{out}` and `{config}` are filled in on the machine."""

    name: str
    argv: list[str]


@dataclass(frozen=True)
class Order:
    """Everything the worker needs to know; times in seconds, money in USD."""

    run_id: str
    python: str
    gpu_count: int  # 0: none is expected
    gpu_names: list[str]
    setup: list[Step]
    data_path: str | None  # absolute where the data lie in place; None: RUN_DIR/data
    data_arrives: bool  # wait for `data.ready`
    make_data: Step | None
    command: Step
    env: dict[str, str]
    hourly_usd: float
    max_cost_usd: float
    max_hours: float
    billed_s: float  # already on the bill when the order was written
    waits_for_home: bool  # the machine's disk is the only copy: stay until the results are fetched
    after_s: float = 0.0  # expected from the end of training to the end of the bill
    may_ask: bool = False  # somebody at a terminal follows the run

    def limit_s(self) -> float:
        """Seconds of machine time that the budget allows, counted from the first billed second."""
        by_hours = self.max_hours * 3600
        if self.hourly_usd <= 0:
            return by_hours
        return min(by_hours, self.max_cost_usd / self.hourly_usd * 3600)

    def reserve_s(self) -> float:
        """Seconds kept back at the end to save, and to bring the results home."""
        return min(120.0, 0.1 * self.limit_s())

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def read_order(path: Path) -> Order:
    plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for key in ("make_data", "command"):
        plain[key] = None if plain[key] is None else Step(**plain[key])
    plain["setup"] = [Step(**step) for step in plain["setup"]]
    return Order(**plain)
