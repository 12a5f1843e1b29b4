"""Public list prices, for whoever has no account yet: a dated table in the wheel. Nobody is asked.

`benchmarks/list_prices.py` writes the table. A list price is not the user's: nothing is rented by it, no budget and no
receipt rests on it, and wherever one is shown its source and its age are shown with it.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

LIST_PRICES = Path(__file__).with_name("list_prices.csv")
COLUMNS = ("infra", "gpu", "count", "machine", "region", "cpus", "memory_gb", "hourly_usd")


@dataclass(frozen=True, slots=True)
class ListPrice:
    """A machine and its list price on demand, in USD an hour, in the region where it is cheapest."""

    infra: str
    gpu: str  # SkyPilot's name
    count: int  # cards of one machine
    machine: str
    region: str
    cpus: float
    memory_gb: float  # of the machine
    hourly_usd: float


@dataclass(frozen=True, slots=True)
class ListPrices:
    """The whole table. `as_of`: the oldest that one of its prices can be."""

    source: str
    as_of: datetime
    rows: tuple[ListPrice, ...]

    @property
    def label(self) -> str:
        """Return what is shown as the source of a price."""
        return f"list price, not yours: {self.source}"


@cache
def list_prices(path: Path = LIST_PRICES) -> ListPrices:
    """Read the table."""
    with path.open(encoding="utf-8", newline="") as file:
        source = file.readline().removeprefix("# source:").strip()
        as_of = file.readline().removeprefix("# as of:").strip()
        rows = tuple(
            ListPrice(
                infra=row["infra"],
                gpu=row["gpu"],
                count=int(row["count"]),
                machine=row["machine"],
                region=row["region"],
                cpus=float(row["cpus"]),
                memory_gb=float(row["memory_gb"]),
                hourly_usd=float(row["hourly_usd"]),
            )
            for row in csv.DictReader(file)
        )
    return ListPrices(source, datetime.fromisoformat(as_of).replace(tzinfo=UTC), rows)
