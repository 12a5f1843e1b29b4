"""Find the lowest price of each GPU in the catalogs that SkyPilot keeps on this computer, without SkyPilot."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cloudrun.catalog.gpus import MEMORY_GB, tier
from cloudrun.catalog.list_prices import list_prices
from cloudrun.text.units import age, iso


@dataclass(frozen=True, slots=True)
class CatalogPrice:
    """The price of a machine with one card, on demand, in USD an hour; `as_of`: the time of the catalog."""

    hourly_usd: float
    cloud: str
    as_of: datetime
    source: str = "SkyPilot's catalog on this computer"


def catalog_prices(sky_home: Path | None = None) -> dict[str, CatalogPrice]:
    """Return the lowest price of each GPU, by SkyPilot's name of it; empty where SkyPilot was never used."""
    lowest: dict[str, CatalogPrice] = {}
    for path in sorted(((sky_home or Path.home() / ".sky") / "catalogs").glob("*/*/vms.csv")):
        as_of = datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
        for name, price in _single_cards(path):
            if name not in lowest or price < lowest[name].hourly_usd:
                lowest[name] = CatalogPrice(price, path.parent.name, as_of)
    return lowest


def listed_prices() -> dict[str, CatalogPrice]:
    """By SkyPilot's name of the GPU, from the public list prices in the wheel: for whoever has no catalogs yet."""
    known = list_prices()
    lowest: dict[str, CatalogPrice] = {}
    for row in known.rows:
        if row.count == 1 and (row.gpu not in lowest or row.hourly_usd < lowest[row.gpu].hourly_usd):
            lowest[row.gpu] = CatalogPrice(row.hourly_usd, row.infra, known.as_of, known.label)
    return lowest


def sources_text(prices: Mapping[str, CatalogPrice], now: datetime) -> list[str]:
    """Return a line for each source of the prices, with the age of its oldest one."""
    oldest: dict[str, datetime] = {}
    for price in prices.values():
        oldest[price.source] = min(price.as_of, oldest.get(price.source, price.as_of))
    return [f"prices: {source}; {age((now - as_of).total_seconds())} old at most" for source, as_of in oldest.items()]


def gpu_row(name: str, price: CatalogPrice | None) -> dict[str, Any]:
    """Return the object of one GPU in `gpus --json`."""
    return {
        "gpu": name,
        "memory_gb": MEMORY_GB[name],
        "tier": tier(MEMORY_GB[name]),
        "hourly_usd": price.hourly_usd if price else None,
        "infra": price.cloud if price else None,
        "price_source": price.source if price else None,
        "price_as_of": iso(price.as_of) if price else None,
    }


def gpu_cells(name: str, price: CatalogPrice | None) -> list[str]:
    """Return the row of one GPU in the table of `gpus`."""
    memory = MEMORY_GB[name]
    shown = ["-", "-"] if price is None else [f"${price.hourly_usd:.2f}", price.cloud]
    return [name, f"{memory} GB", tier(memory), *shown]


def _single_cards(path: Path) -> Iterator[tuple[str, float]]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            try:
                count, price = float(row.get("AcceleratorCount") or 0), float(row.get("Price") or "nan")
            except ValueError:
                continue
            # GCP lists cards apart from the machines that hold them: a card's price is not a machine's.
            if count == 1 and price > 0 and row.get("InstanceType"):
                yield row["AcceleratorName"], price
