"""Turn SkyPilot's objects into our own types (Quote, Machine). Nobody is asked here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cloudrun.backends.skypilot import internals
from cloudrun.catalog.disk_price import disk_hourly_usd
from cloudrun.catalog.infras import is_own_cluster
from cloudrun.state.machines import Machine
from cloudrun.state.records import Quote, now_utc


def quote_of(resources: Any, *, nodes: int = 1) -> Quote:
    """Return the quote for `nodes` machines with these `resources`, at SkyPilot's price."""
    source, as_of = price_source(str(resources.cloud).lower())
    return Quote(
        machine=str(resources.instance_type),
        infra=str(resources.cloud).lower(),
        region=resources.region,
        gpu=_gpu_of(resources),
        spot=bool(resources.use_spot),
        hourly_usd=float(resources.get_cost(3600)) * nodes,
        disk_hourly_usd=disk_hourly_usd(str(resources.cloud).lower(), resources.disk_size or 0) * nodes,
        source=source,
        as_of=as_of,
        cpus=internals.cpus_of(resources),
        nodes=nodes,
    )


def billed_quote(quote: Quote, machines: Sequence[Machine]) -> Quote:
    """Return the quote at the price that the provider itself lists for the machines, which includes their disks.

    Returns the quote unchanged where a machine is missing in the listing, or has no price there.
    """
    hourly_usd = billed_hourly_usd(machines, nodes=quote.nodes)
    return quote if hourly_usd is None else quote.at_its_providers(hourly_usd, now_utc())


def billed_hourly_usd(machines: Sequence[Machine], *, nodes: int) -> float | None:
    """Return the price in USD an hour that the provider lists for all the run's machines together.

    None where one of the machines is not listed, or has no price.
    """
    prices = [one.hourly_usd for one in machines if one.hourly_usd is not None]
    return round(sum(prices), 6) if len(prices) == len(machines) == nodes else None


def price_source(cloud: str) -> tuple[str, datetime]:
    """Return the source of SkyPilot's prices on a cloud, and the time when that source was last written."""
    sky_home = Path.home() / ".sky"
    if is_own_cluster(cloud):
        source, paths = "your own price in ~/.sky/config.yaml", [sky_home / "config.yaml"]
    else:
        source, paths = "SkyPilot's catalog", sorted((sky_home / "catalogs").glob(f"*/{cloud}/vms.csv"))
    times = [path.stat().st_mtime for path in paths if path.exists()]
    return source, datetime.fromtimestamp(int(max(times)), UTC) if times else now_utc()


def known_machine(row: Any) -> Machine:
    """Return the machine of one row of `sky.status`."""
    launched = internals.launched_of(row.handle)
    return Machine(
        name=row.name,
        infra=(row.cloud or launched.infra if launched else "?").lower(),
        handle=row.name,
        is_known_here=True,
        gpu=_gpu_of(launched.resources) if launched else None,
        hourly_usd=float(launched.resources.get_cost(3600)) * launched.nodes if launched else None,
        up_since=datetime.fromtimestamp(row.launched_at, UTC),
    )


def _gpu_of(resources: Any) -> str | None:
    return ", ".join(f"{name}:{count:g}" for name, count in (resources.accelerators or {}).items()) or None
