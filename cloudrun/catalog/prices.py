"""The lowest price of each GPU in the catalogs that SkyPilot keeps on this computer, read without SkyPilot."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cloudrun.catalog.gpus import MEMORY_GB, tier
from cloudrun.text.units import iso


@dataclass(frozen=True, slots=True)
class CatalogPrice:
    """Of a machine with one card, on demand; USD an hour."""

    hourly_usd: float
    cloud: str
    as_of: datetime


def catalog_prices(sky_home: Path | None = None) -> dict[str, CatalogPrice]:
    """By SkyPilot's name of the GPU; empty where SkyPilot was never used."""
    lowest: dict[str, CatalogPrice] = {}
    for path in sorted(((sky_home or Path.home() / ".sky") / "catalogs").glob("*/*/vms.csv")):
        as_of = datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
        for name, price in _single_cards(path):
            if name not in lowest or price < lowest[name].hourly_usd:
                lowest[name] = CatalogPrice(price, path.parent.name, as_of)
    return lowest


def gpu_row(name: str, price: CatalogPrice | None) -> dict[str, Any]:
    """One object of `gpus --json`."""
    return {
        "gpu": name,
        "memory_gb": MEMORY_GB[name],
        "tier": tier(MEMORY_GB[name]),
        "hourly_usd": price.hourly_usd if price else None,
        "infra": price.cloud if price else None,
        "price_source": "SkyPilot's catalog on this computer" if price else None,
        "price_as_of": iso(price.as_of) if price else None,
    }


def gpu_cells(name: str, price: CatalogPrice | None) -> list[str]:
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
            if count == 1 and price > 0:
                yield row["AcceleratorName"], price
