"""What a run on a machine of the user's own costs in the currency of its price, and whether the machine stays on."""

from __future__ import annotations

from typing import TypedDict

from cloudrun.job.own_machine import LEAVE
from cloudrun.state.run import Run


class OwnCost(TypedDict):
    """The cost in the currency in which the user pays; `stays_on`: whether the machine's bill goes on after the run."""

    currency: str
    hourly: float
    cost: float
    stays_on: bool


def own_cost(run: Run, hours: float) -> OwnCost | None:
    """Return the cost of `hours` on the run's machine; None where the machine is rented, or has no price."""
    price = run.job.get("price")
    if run.backend != "ssh" or not isinstance(price, dict):
        return None
    hourly = float(price["hourly"])
    return {
        "currency": str(price.get("currency", "USD")),
        "hourly": hourly,
        "cost": round(hourly * hours, 4),
        "stays_on": hourly > 0 and run.job.get("end", LEAVE) == LEAVE,
    }


def stays_on(run: Run) -> bool:
    """Return whether the run's machine goes on costing money when the run is over, as its job file says."""
    cost = own_cost(run, 0.0)
    return cost is not None and cost["stays_on"]
