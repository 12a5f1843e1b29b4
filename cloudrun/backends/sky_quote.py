"""The machine that SkyPilot would rent for a plan, and its price, before anything is rented."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudrun.agreed import is_price
from cloudrun.backends.sky_errors import no_machine
from cloudrun.backends.sky_records import quote_of
from cloudrun.backends.sky_task import machine_config
from cloudrun.errors import NoMachine, UsageError
from cloudrun.plan import Plan
from cloudrun.run import Fallback, Quote


def refuse_remote_server() -> None:
    """Raise UsageError where SkyPilot's API server is on another machine.

    The entries by which SSH finds a rented machine, and the clouds that are enabled, are then there and not here: the
    machine would be paid for, and nothing could be sent to it.
    """
    from sky.server.common import get_server_url, is_api_server_local

    if not is_api_server_local():
        raise UsageError(
            f"SkyPilot's API server is on another machine ({get_server_url()}), which cloudrun cannot work with;"
            " nothing was rented",
            hint="use the one on this computer: `sky api logout`, and unset SKYPILOT_API_SERVER_ENDPOINT",
        )


def quote_for(sky: Any, plan: Plan) -> Quote:
    """The optimizer's first choice, with the other GPUs of the job's list at their own prices. Raises NoMachine."""
    try:
        config = request_for(sky, plan)
        first = quote_of(_best(sky, config), nodes=plan.spec.nodes)
        return first.model_copy(update={"fallbacks": _fallbacks(sky, config, first)})
    except Exception as err:
        raise no_machine(err, plan) from err


def request_for(sky: Any, plan: Plan) -> dict[str, Any]:
    """SkyPilot's task for the bare machine, kept off clouds whose catalog has no price for it.

    With spot machines of a cloud at $0.00 SkyPilot would take these before all others.
    """
    config = machine_config(plan)
    if not plan.spec.spot or "infra" in config["resources"]:
        return config
    cheapest = _optimized(sky, config, [])
    chosen = _best(sky, config)
    if str(chosen.cloud) == str(cheapest.cloud):
        return config
    return {**config, "resources": {**config["resources"], "infra": str(chosen.cloud).lower()}}


def _best(sky: Any, config: Mapping[str, Any]) -> Any:
    """The cheapest that has a price. Raises NoMachine where all that is left is listed at $0.00."""
    without: list[Any] = []
    while True:
        try:
            chosen = _optimized(sky, config, without)
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


def _fallbacks(sky: Any, config: Mapping[str, Any], first: Quote) -> tuple[Fallback, ...]:
    """What the rest of the list would cost. What cannot be had is left out: SkyPilot would not find it either."""
    resources = dict(config["resources"])
    found = []
    for entry in resources.pop("ordered", []):
        try:
            quote = quote_of(_best(sky, {**config, "resources": {**resources, **entry}}), nodes=first.nodes)
        except Exception:  # noqa: BLE001, S112 - the first choice stands, whatever becomes of the others
            continue
        if quote.gpu is not None and quote.gpu != first.gpu:
            found.append(Fallback(gpu=quote.gpu, infra=quote.infra, total_hourly_usd=quote.total_hourly_usd))
    return tuple(found)


def _optimized(sky: Any, config: Mapping[str, Any], without: list[Any]) -> Any:
    from sky.optimizer import Optimizer

    with sky.Dag() as dag:  # a task made in here adds itself
        sky.Task.from_yaml_config(dict(config))
    Optimizer.optimize(dag, blocked_resources=without or None, quiet=True)
    return dag.tasks[0].best_resources
