"""Turn a row of a provider's own listing into a Machine, with its price and its times. Pure, tested by tables."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from cloudrun.backends.skypilot.internals import MACHINE_TAG
from cloudrun.state.machines import Machine

# The values of a pod's `desiredStatus` while it is up; with any other value it does not run any more.
_RUNPOD_UP = ("CREATED", "RUNNING", "RESTARTING", "PAUSED")
# A host that is OFFLINE may come back.
_VAST_STOPPED = ("EXITED", "STOPPED")

# RunPod: `Rented by User: Fri Jul 12 2024 15:14:40 GMT-0400 (Eastern Daylight Time)`.
_RUNPOD = re.compile(r"^(?P<what>[^:]*): \w{3} (?P<moment>\w{3} \d{1,2} \d{4} [\d:]{8}) GMT(?P<zone>[+-]\d{4})")
# AWS: `User initiated (2024-07-12 15:14:40 GMT)`.
_AWS = re.compile(r"\((?P<moment>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (GMT|UTC)\)")


def runpod_machine(pod: Mapping[str, Any], now: datetime) -> Machine:
    """Return the machine of a RunPod pod. `costPerHr` is the price of the whole pod, with its disk.

    A pod without a name gets an empty one, and so is none of ours.
    """
    status = str(pod.get("desiredStatus") or "")
    is_up = status in _RUNPOD_UP
    what, changed_at = runpod_change(pod.get("lastStatusChange")) or ("", None)
    uptime_s = _price(pod.get("uptimeSeconds"))
    up_since = None if uptime_s is None else now - timedelta(seconds=uptime_s)
    if what.startswith("Rented"):
        up_since = changed_at
    return Machine(
        name=pod.get("name") or "",
        infra="runpod",
        handle=str(pod["id"]),
        is_known_here=False,
        hourly_usd=_price(pod.get("costPerHr")),
        up_since=up_since if is_up else None,
        stopped=None if is_up else status or "no status",
        ended_at=None if is_up else changed_at,
    )


def vast_machine(one: Mapping[str, Any]) -> Machine:
    """Return the machine of a Vast instance. `dph_total` is the price of the machine with its disk."""
    status = str(one.get("actual_status") or "").upper()
    return Machine(
        name=one.get("label") or "",
        infra="vast",
        handle=str(one["id"]),
        is_known_here=False,
        hourly_usd=_price(one.get("dph_total")),
        up_since=from_epoch(one.get("start_date")),
        stopped=status if status in _VAST_STOPPED else None,
    )


def lambda_machine(one: Mapping[str, Any]) -> Machine:
    """Return the machine of a Lambda instance; the listing has no times."""
    cents = _price((one.get("instance_type") or {}).get("price_cents_per_hour"))
    return Machine(
        name=one.get("name") or "",
        infra="lambda",
        handle=str(one["id"]),
        is_known_here=False,
        hourly_usd=None if cents is None else cents / 100,
    )


def aws_machine(region: str, instance: Mapping[str, Any]) -> Machine:
    """Return the machine of an EC2 instance; the listing has no price."""
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    state = str(instance["State"]["Name"])
    is_up = state in ("pending", "running")
    return Machine(
        name=tags[MACHINE_TAG],
        infra="aws",
        handle=f"{region}:{instance['InstanceId']}",
        is_known_here=False,
        up_since=instance["LaunchTime"].astimezone(UTC),
        stopped=None if is_up else state,
        ended_at=None if is_up else aws_transition(instance.get("StateTransitionReason")),
    )


def _price(value: object) -> float | None:
    """Return a positive finite number; None for anything else, 0 among it: that is no price."""
    try:
        price = float(str(value))
    except ValueError:
        return None
    return price if math.isfinite(price) and price > 0 else None


def runpod_change(text: str | None) -> tuple[str, datetime] | None:
    """Return (what happened, when) from a pod's `lastStatusChange`; None where the text has another form."""
    found = _RUNPOD.match(text or "")
    if found is None:
        return None
    sign = -1 if found["zone"][0] == "-" else 1
    offset = sign * timedelta(hours=int(found["zone"][1:3]), minutes=int(found["zone"][3:]))
    try:
        moment = datetime.strptime(found["moment"], "%b %d %Y %H:%M:%S").replace(tzinfo=timezone(offset))
    except ValueError:
        return None
    return found["what"], moment.astimezone(UTC)


def aws_transition(text: str | None) -> datetime | None:
    """Return when an instance was stopped or ended, from its `StateTransitionReason`; None where that has no time."""
    found = _AWS.search(text or "")
    if found is None:
        return None
    return datetime.strptime(found["moment"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)


def slurm_end(text: str) -> datetime | None:
    """Return the moment of Slurm's `2024-07-12T15:14:40`, which `squeue` writes in UTC with TZ=UTC; None for `N/A`."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def from_epoch(seconds: object) -> datetime | None:
    """Return the moment of seconds since 1970; None where the listing has no positive number."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0:
        return None
    return datetime.fromtimestamp(int(seconds), UTC)
