"""A row of SkyPilot's catalogs -> an Offer. Pure, so that it is tested by equality."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from cloudrun.backends import Offer
from cloudrun.billing.agreed import is_price
from cloudrun.catalog.gpus import MEMORY_GB


def is_a_gpu(info: Any) -> bool:
    """TPUs and the like stand in the same lists; a price that is not known is no offer."""
    return "tpu" not in info.accelerator_name.lower() and _price(info, info.price) is not None


def offer_of(info: Any, source: str, as_of: datetime, *, nodes: int = 1) -> Offer:
    """Of `nodes` machines such as `info`, SkyPilot's `InstanceTypeInfo`."""
    price, spot = float(info.price), _price(info, info.spot_price)
    name = info.accelerator_name
    return Offer(
        infra=str(info.cloud).lower(),
        region=info.region or None,
        machine=info.instance_type or f"{name} machine",
        gpu=f"{name}:{info.accelerator_count:g}",
        # RunPod's catalog has GB where others have MiB: our own list is surer.
        memory_gb=MEMORY_GB.get(name) or _memory_gb(_number(info.device_memory)),
        cpus=_number(info.cpu_count),
        host_memory_gb=_number(info.memory),
        hourly_usd=price * nodes,
        # Clusters without spot machines repeat the price.
        spot_usd=None if spot is None or spot == price else spot * nodes,
        source=source,
        as_of=as_of,
        nodes=nodes,
    )


def _price(info: Any, value: Any) -> float | None:
    """A price of 0 is none, on a cloud that charges."""
    price = _number(value)
    return price if price is not None and is_price(str(info.cloud), price) else None


def _memory_gb(gib: float | None) -> float | None:
    return None if gib is None or gib < 1 else round(gib * 1.073741824)


def _number(value: Any) -> float | None:
    """None for the catalogs' NaN, too."""
    return None if value is None or math.isnan(float(value)) else float(value)
