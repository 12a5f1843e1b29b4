"""Questions to SkyPilot's server, each with the answer in its own types."""

from __future__ import annotations

from typing import Any

from cloudrun.backends.patience import within
from cloudrun.backends.skypilot import internals
from cloudrun.backends.skypilot.errors import brief
from cloudrun.backends.skypilot.listing import CannotList, refuse_if_silent
from cloudrun.state.run import MACHINE_PREFIX

# SkyPilot asks a provider that is away again and again, for minutes. A busy computer takes half a minute for an answer.
_ANSWER_S = 60.0


def launches_of(sky: Any, machine: str) -> list[str]:
    """Requests to rent it that SkyPilot's server still works on."""
    return [request.request_id for request in sky.api_status(cluster_name=machine) if internals.is_a_launch(request)]


def record_of(sky: Any, machine: str) -> Any:
    """The provider's word on one machine; None where there is none. Raises NoAnswerYet where it does not come."""
    records = within(_ANSWER_S, lambda: sky.get(sky.status([machine], refresh=sky.StatusRefreshMode.FORCE)))
    return records[0] if records else None


def accelerators_of(sky: Any, machine: str) -> dict[str, float]:
    """The GPUs that SkyPilot rented with it, by its own record."""
    records = sky.get(sky.status([machine]))
    launched = internals.launched_of(records[0].handle) if records else None
    return launched.accelerators if launched is not None else {}


def fresh_records(sky: Any) -> tuple[list[Any], list[str]]:
    """SkyPilot's records of machines of ours, each asked of its provider by itself; and what went unanswered.

    A machine of which its provider's answer cannot be read stays in the list as it was last known, and hides no other.
    """
    known = {row.name: row for row in sky.get(sky.status(all_users=True)) if row.name.startswith(MACHINE_PREFIX)}
    asked, fresh, unasked = {}, [], []
    for name, row in known.items():
        try:
            refuse_if_silent((row.cloud or "").lower())
        except CannotList as err:
            fresh.append(row)
            unasked.append(f"{name}: {brief(err)}")
            continue
        asked[name] = sky.status([name], refresh=sky.StatusRefreshMode.FORCE)
    for name, request in asked.items():
        try:
            fresh += sky.get(request)
        except Exception as err:  # noqa: BLE001 - one machine must not hide the others
            fresh.append(known[name])
            unasked.append(f"{name}: {brief(err)}")
    return fresh, unasked
