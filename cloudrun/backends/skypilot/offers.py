"""Turn a row of SkyPilot's catalogs into an Offer. Pure, so that it is tested by equality."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from cloudrun.backends import Offer
from cloudrun.billing.agreed import is_price
from cloudrun.catalog.gpus import MEMORY_GB


def is_a_gpu(info: Any) -> bool:
    """Return whether a row is a GPU with a known price: the same lists have TPUs, and rows without a price."""
    return "tpu" not in info.accelerator_name.lower() and _price(info, info.price) is not None


def offer_of(info: Any, source: str, as_of: datetime, *, nodes: int = 1) -> Offer:
    """Return the offer of `nodes` machines such as `info`, SkyPilot's `InstanceTypeInfo`."""
    price, spot = float(info.price), _price(info, info.spot_price)
    name = info.accelerator_name
    return Offer(
        infra=str(info.cloud).lower(),
        region=info.region or None,
        machine=info.instance_type or f"{name} machine",
        gpu=f"{name}:{info.accelerator_count:g}",
        # RunPod's catalog has GB where others have MiB, so our own list is asked first.
        memory_gb=MEMORY_GB.get(name) or _memory_gb(_number(info.device_memory)),
        cpus=_number(info.cpu_count),
        host_memory_gb=_number(info.memory),
        hourly_usd=price * nodes,
        # For clusters without spot machines the catalog repeats the other price.
        spot_usd=None if spot is None or spot == price else spot * nodes,
        source=source,
        as_of=as_of,
        nodes=nodes,
    )


def _price(info: Any, value: Any) -> float | None:
    """Return the price of one machine; None where it is not known: a cloud that charges has no price of 0."""
    price = _number(value)
    return price if price is not None and is_price(str(info.cloud), price) else None


def _memory_gb(gib: float | None) -> float | None:
    return None if gib is None or gib < 1 else round(gib * 1.073741824)


def _number(value: Any) -> float | None:
    """Return the number; None for None and for NaN, which the catalogs have where a value is missing."""
    return None if value is None or math.isnan(float(value)) else float(value)
