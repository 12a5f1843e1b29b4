"""Ask SkyPilot's server for requests, records and GPUs of machines."""

from __future__ import annotations

from typing import Any

from cloudrun.backends.patience import within
from cloudrun.backends.skypilot import internals
from cloudrun.backends.skypilot.errors import brief
from cloudrun.backends.skypilot.listing import CannotList, refuse_if_silent
from cloudrun.state.run import MACHINE_PREFIX

# A busy computer takes half a minute for an answer. Where a provider does not answer, SkyPilot goes on for minutes.
_ANSWER_S = 60.0


def launches_of(sky: Any, machine: str) -> list[str]:
    """Return the ids of requests to rent the machine that SkyPilot's server still works on."""
    return [request.request_id for request in sky.api_status(cluster_name=machine) if internals.is_a_launch(request)]


def record_of(sky: Any, machine: str) -> Any:
    """Return SkyPilot's record of one machine, made new by asking its provider; None where there is no machine.

    Raises NoAnswerYet where no answer comes within a minute, else SkyPilot's errors.
    """
    records = within(_ANSWER_S, lambda: sky.get(sky.status([machine], refresh=sky.StatusRefreshMode.FORCE)))
    return records[0] if records else None


def accelerators_of(sky: Any, machine: str) -> dict[str, float]:
    """Return the GPUs of the machine by SkyPilot's own record: name -> count; empty where there are none."""
    records = sky.get(sky.status([machine]))
    launched = internals.launched_of(records[0].handle) if records else None
    return launched.accelerators if launched is not None else {}


def fresh_records(sky: Any) -> tuple[list[Any], list[str]]:
    """Return SkyPilot's records of machines of ours, each made new by asking its provider; and what was not answered.

    Each machine is asked about by itself. A machine without an answer stays in the list as it was last known, and
    hides no other.
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
