"""Ask SkyPilot's optimizer, on this computer, which machine a plan would get."""

from __future__ import annotations

import math
from typing import Any

from cloudrun.backends.sky_errors import offered_instead
from cloudrun.backends.sky_task import machine_config
from cloudrun.endings import WITHOUT_AUTODOWN
from cloudrun.plan import Plan


def gpus_in_order(plan: Plan) -> list[str]:
    """Return SkyPilot's names of the wanted GPUs in the job's order; of one with several names the cheapest first.

    SkyPilot takes such a list literally: it would rent the dearest A100 before an A100-80GB for a third of the price.
    """
    order: list[str] = []
    for names in plan.spec.gpu_choices:
        order += names if len(names) == 1 else sorted(names, key=lambda gpu: _hourly_usd(plan, gpu))
    return order


def best_resources(plan: Plan, gpus: list[str]) -> Any:
    """Return SkyPilot's `Resources` of the machine that it would try first. Raises SkyPilot's errors."""
    import sky
    from sky.optimizer import Optimizer
    from sky.utils.registry import CLOUD_REGISTRY

    with sky.Dag() as dag:  # a task made in here adds itself
        sky.Task.from_yaml_config(machine_config(plan, gpus))
    # Where the job leaves the cloud open, none whose machine could not end itself: the launch is refused there.
    refused = [] if plan.spec.infra else [sky.Resources(cloud=CLOUD_REGISTRY.from_str(one)) for one in WITHOUT_AUTODOWN]
    Optimizer.optimize(dag, quiet=True, blocked_resources=refused)
    return dag.tasks[0].best_resources


def offered_for(plan: Plan) -> list[str]:
    """Return the GPUs that SkyPilot proposes instead of those that it does not find, of all choices together.

    Its own message tells of the last choice alone.
    """
    from sky import exceptions

    found: dict[str, None] = {}
    for names in plan.spec.gpu_choices:
        for gpu in names:
            try:
                best_resources(plan, [gpu])
            except exceptions.ResourcesUnavailableError as err:
                found |= dict.fromkeys(offered_instead(err))
    wanted = {gpu for names in plan.spec.gpu_choices for gpu in names}
    return [gpu for gpu in found if gpu not in wanted]


def _hourly_usd(plan: Plan, gpu: str) -> float:
    from sky import exceptions

    try:
        return float(best_resources(plan, [gpu]).get_cost(3600))
    except exceptions.ResourcesUnavailableError:
        return math.inf
