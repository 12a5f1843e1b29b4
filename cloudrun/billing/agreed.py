"""Decide what a machine may cost, and how long renting it may take, from the quote that was agreed to.

Pure; prices in USD an hour, times in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cloudrun.catalog.infras import CAPABILITIES, backend_for, is_own_cluster
from cloudrun.state.records import Quote

if TYPE_CHECKING:  # `ps` starts faster without it
    from cloudrun.job.spec import Budget

# A machine may be dearer than agreed by this part before the user is asked again.
TOLERANCE = 0.10
_LONGEST_S = 20 * 60.0
_PART_OF_BUDGET = 0.25
_SHORTEST_S = 5 * 60.0
_MOST_OF_BUDGET = 0.75


def is_price(infra: str, hourly_usd: float) -> bool:
    """Return whether `hourly_usd` can be a price of `infra`: on a cloud that charges, 0 is a gap in the catalog."""
    return hourly_usd > 0 or _has_free_machines(infra)


def waiting_bills(infra: str) -> bool:
    """Return whether a machine of `infra` may bill before it is ready; a queue of the user's own machines does not."""
    return not _has_free_machines(infra)


def _has_free_machines(infra: str) -> bool:
    """Return whether the price is what the owner of the machines says, and 0 means that nothing is billed."""
    return is_own_cluster(infra) or not CAPABILITIES[backend_for(infra)].is_billed


def agreed_usd(agreed: Quote, gpu: str | None) -> float:
    """Return the price that was agreed to for `gpu`, with disks; the first choice's where `gpu` had no price."""
    for one in agreed.fallbacks:
        if one.gpu == gpu and gpu != agreed.gpu:
            return one.total_hourly_usd
    return agreed.total_hourly_usd


def is_too_dear(agreed: Quote, got: Quote) -> bool:
    """Return whether a machine is dearer than agreed by more than TOLERANCE."""
    return got.total_hourly_usd > agreed_usd(agreed, got.gpu) * (1 + TOLERANCE)


def capped(config: Mapping[str, Any], agreed: Quote) -> dict[str, Any]:
    """Return SkyPilot's task with `max_hourly_cost` in every request: USD an hour of one machine.

    SkyPilot compares it with its catalog's price of each instance type: without disk, and not times the nodes.
    """
    if not is_price(agreed.infra, 0.0):  # the prices are a provider's; the user's own clusters get no limit
        resources = dict(config["resources"])
        if "ordered" in resources:
            resources["ordered"] = [
                {**one, "max_hourly_cost": _cap(agreed, one.get("accelerators"))} for one in resources["ordered"]
            ]
        else:
            resources["max_hourly_cost"] = _cap(agreed, resources.get("accelerators"))
        return {**config, "resources": resources}
    return dict(config)


def _cap(agreed: Quote, gpu: str | None) -> float:
    return round(agreed_usd(agreed, gpu) * (1 + TOLERANCE) / agreed.nodes, 4)


def rent_limit_s(
    budget: Budget, hourly_usd: float, *, billed_s: float = 0.0, spent_usd: float = 0.0, waiting_bills: bool = True
) -> float:
    """Return the seconds that renting may take: `rent_minutes`, else 20 minutes or a quarter of what the budget leaves.

    The shorter one counts, but a budget of minutes allows five minutes: no provider gives a machine in less. Where the
    machine may bill before it is ready, a quarter of the budget is kept all the same, so that renting alone never goes
    over it.
    """
    if budget.rent_minutes is not None and not waiting_bills:
        return budget.rent_minutes * 60
    left_s = budget.max_hours * 3600 - billed_s
    if hourly_usd > 0:
        left_s = min(left_s, max(budget.max_cost - spent_usd, 0.0) / hourly_usd * 3600)
    left_s = max(left_s, 0.0)
    most_s = left_s * _MOST_OF_BUDGET
    if budget.rent_minutes is not None:
        return min(budget.rent_minutes * 60, most_s)
    return min(_LONGEST_S, max(left_s * _PART_OF_BUDGET, min(_SHORTEST_S, most_s)))


def left_to_try(gpus: tuple[str, ...], tried: str | None) -> tuple[str, ...]:
    """Return the GPUs of a job's list after `tried`: SkyPilot tries the list in order.

    `tried` may be another name of a listed GPU (`A100-80GB` for `A100`). Where it is not known, it was the first one.
    """
    if tried in gpus:
        return gpus[gpus.index(tried) + 1 :]
    for place, gpu in enumerate(gpus):  # `A100` may have been rented as an `A100-80GB`
        if tried is not None and tried.startswith(f"{gpu.rpartition(':')[0]}-"):
            return gpus[place + 1 :]
    return gpus[1:]
