"""Ask SkyPilot's optimizer, on this computer, which machine a request would get."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cloudrun.backends.skypilot import internals
from cloudrun.backends.skypilot.errors import offered_instead
from cloudrun.backends.skypilot.task import machine_config
from cloudrun.billing.agreed import is_price
from cloudrun.catalog.endings import WITHOUT_AUTODOWN
from cloudrun.errors import NoMachine
from cloudrun.job.plan import Plan


def best(sky: Any, config: Mapping[str, Any]) -> Any:
    """Return SkyPilot's `Resources` of the cheapest machine that has a price.

    Raises NoMachine where only machines at $0.00 are left, else SkyPilot's errors.
    """
    without: list[Any] = []
    while True:
        try:
            chosen = optimized(sky, config, without)
        except Exception as err:
            if not without:
                raise
            clouds = ", ".join(sorted(str(one.cloud).lower() for one in without))
            kind = "a spot machine" if config["resources"].get("use_spot") else "a machine"
            raise NoMachine(
                f"SkyPilot's catalog lists {kind} of {clouds} at $0.00 an hour, which is no price:"
                " no budget could be kept",
                hint="rent on demand (`--no-spot`), or name another cloud with `--infra`",
            ) from err
        if is_price(str(chosen.cloud), float(chosen.get_cost(3600))):
            return chosen
        without.append(sky.Resources(cloud=chosen.cloud, use_spot=chosen.use_spot))  # all of its machines of that kind
        assert len({str(one.cloud) for one in without}) == len(without), f"{chosen.cloud} cannot be left out"


def optimized(sky: Any, config: Mapping[str, Any], without: list[Any]) -> Any:
    """Return SkyPilot's `Resources` of the machine that it would try first. Raises SkyPilot's errors.

    `without`: `Resources` that it may not choose. Where the request leaves the cloud open, clouds are left out whose
    machines cannot end themselves: a launch is refused there.
    """
    refused: list[Any] = []
    if "infra" not in config["resources"]:
        refused = [sky.Resources(cloud=internals.cloud_named(one)) for one in WITHOUT_AUTODOWN]
    return internals.first_choice(config, [*without, *refused])


def gpus_in_order(sky: Any, plan: Plan) -> list[str]:
    """Return SkyPilot's names of the wanted GPUs in the job's order; for a GPU with several names, the cheapest first.

    SkyPilot takes the list literally: it would rent the dearest A100 before an A100-80GB for a third of the price.
    """
    order: list[str] = []
    for names in plan.spec.gpu_choices:
        order += names if len(names) == 1 else sorted(names, key=lambda gpu: _hourly_usd(sky, plan, gpu))
    return order


def offered_for(sky: Any, plan: Plan) -> list[str]:
    """Return the GPUs that SkyPilot proposes where it does not find the wanted ones, for all choices of the job.

    SkyPilot's own message names the proposals for the last choice alone.
    """
    wanted = [gpu for names in plan.spec.gpu_choices for gpu in names]
    found: dict[str, None] = {}
    for gpu in wanted:
        try:
            optimized(sky, machine_config(plan, [gpu]), [])
        except sky.exceptions.ResourcesUnavailableError as err:
            found |= dict.fromkeys(offered_instead(err))
    return [gpu for gpu in found if gpu not in wanted]


def _hourly_usd(sky: Any, plan: Plan, gpu: str) -> float:
    try:
        return float(best(sky, machine_config(plan, [gpu])).get_cost(3600))
    except (NoMachine, sky.exceptions.ResourcesUnavailableError):
        return math.inf
