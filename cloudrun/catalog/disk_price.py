"""Compute the price of a rented machine's disk, where the provider bills it apart: SkyPilot's prices leave it out.

List prices in USD a GB and month, in the region where each is cheapest, for the disk type that SkyPilot takes by
default; read in 2026, not asked anew. Providers that are not listed bill the disk with the machine, or not at all.
"""

from __future__ import annotations

_MONTH_H = 730.0
# On these infras the disk is lost when the machine stops.
DISK_GOES_WHEN_STOPPED = ("runpod",)
_USD_PER_GB_MONTH = {
    "aws": 0.08,  # gp3
    "gcp": 0.10,  # pd-balanced
    "azure": 0.075,  # standard SSD
    "vast": 0.15,  # Vast's client proposes it to hosts, who set their own; the catalog's price includes 5 GB
    "runpod": 0.10,  # container disk of a pod that runs
}


def disk_hourly_usd(infra: str, size_gb: float) -> float:
    """Return USD an hour for a disk of `size_gb`; 0 where the machine's price includes it."""
    return round(_USD_PER_GB_MONTH.get(infra, 0.0) * size_gb / _MONTH_H, 6)
