"""Find the machine that SkyPilot would rent for a plan, and its price, before anything is rented."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudrun.backends.skypilot import internals
from cloudrun.backends.skypilot.choice import best, gpus_in_order, offered_for, optimized
from cloudrun.backends.skypilot.errors import no_machine
from cloudrun.backends.skypilot.records import quote_of
from cloudrun.backends.skypilot.task import machine_config
from cloudrun.errors import UsageError
from cloudrun.job.plan import Plan
from cloudrun.state.records import Fallback, Quote


def refuse_remote_server() -> None:
    """Raise UsageError where SkyPilot's API server is on another computer.

    The enabled clouds, and the entries by which SSH finds a rented machine, are then on that computer alone: a machine
    would be paid for, and nothing could be sent to it.
    """
    if not internals.is_server_local():
        raise UsageError(
            f"SkyPilot's API server is on another machine ({internals.server_url()}), which cloudrun cannot work with;"
            " nothing was rented",
            hint="use the one on this computer: `sky api logout`, and unset SKYPILOT_API_SERVER_ENDPOINT",
        )


def quote_for(sky: Any, plan: Plan) -> Quote:
    """Return the optimizer's first choice, with the prices of the job's other GPUs as fallbacks. Raises NoMachine."""
    try:
        config = request_for(sky, plan)
        first = quote_of(best(sky, config), nodes=plan.spec.nodes)
        return first.model_copy(update={"fallbacks": _fallbacks(sky, config, first)})
    except sky.exceptions.ResourcesUnavailableError as err:
        raise no_machine(err, plan, offered_for(sky, plan)) from err
    except Exception as err:
        raise no_machine(err, plan) from err


def request_for(sky: Any, plan: Plan) -> dict[str, Any]:
    """Return SkyPilot's task for the bare machine, without clouds whose catalog has no price for it.

    Where the catalog lists a cloud's spot machines at $0.00, SkyPilot would rent them before all others.
    """
    config = machine_config(plan, gpus_in_order(sky, plan))
    if not plan.spec.spot or "infra" in config["resources"]:
        return config
    cheapest = optimized(sky, config, [])
    chosen = best(sky, config)
    if str(chosen.cloud) == str(cheapest.cloud):
        return config
    return {**config, "resources": {**config["resources"], "infra": str(chosen.cloud).lower()}}


def _fallbacks(sky: Any, config: Mapping[str, Any], first: Quote) -> tuple[Fallback, ...]:
    """Return the prices of the other GPUs of the list; one that cannot be had is left out, as SkyPilot would do."""
    resources = dict(config["resources"])
    found = []
    for entry in resources.pop("ordered", []):
        try:
            quote = quote_of(best(sky, {**config, "resources": {**resources, **entry}}), nodes=first.nodes)
        except Exception:  # noqa: BLE001, S112 - an error at another GPU does not change the first choice
            continue
        if quote.gpu is not None and quote.gpu != first.gpu:
            found.append(Fallback(gpu=quote.gpu, infra=quote.infra, total_hourly_usd=quote.total_hourly_usd))
    return tuple(found)
