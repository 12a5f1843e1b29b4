"""The watchdog decides: each odd case is a row."""

from __future__ import annotations

from typing import Any

import pytest

from cloudrun.protocol.order import Order
from cloudrun.worker.policy import Action, Detach, End, Kill, Observation, RecordCrash, Stop, Wait, decide

LIMIT_S = 4 * 3600.0
ENDED: dict[str, Any] = {"attempt_lives": False, "result_age_s": 5.0}


def decided(seen: dict[str, Any], **order: Any) -> Action:
    fields: dict[str, Any] = dict.fromkeys(Order.__dataclass_fields__)
    rented = {
        "hourly_usd": 1.0, "max_cost_usd": 99.0, "max_hours": 4.0, "billed_s": 0.0, "spent_usd": 0.0,
        "idle_s": 600.0, "stall_s": 900.0, "ending": "slurm", "on_finish": "down",
    }  # fmt: skip
    return decide(
        Order(**{**fields, **rented, **order}), Observation(**{"billed_s": 60.0, "attempt_lives": True, **seen})
    )


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        ({}, Wait()),
        ({"step_silence_s": 899.0}, Wait()),
        ({"data_silence_s": 599.0}, Wait()),
        ({"stop_age_s": 30.0, "step_silence_s": 901.0}, Wait()),  # it is saving: not asked twice
        ({"stop_age_s": 80.0}, Kill()),
        ({"attempt_lives": False}, RecordCrash()),
        ({"is_left": True}, Detach()),
    ],
)
def test_while_the_job_runs(seen: dict[str, Any], what: Action) -> None:
    assert decided(seen) == what


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ({"billed_s": LIMIT_S - 119}, "budget"),
        ({"data_silence_s": 601.0}, "no_data"),
        ({"step_silence_s": 901.0}, "stalled"),
    ],
)
def test_a_job_is_asked_to_save_before_anything_is_ended(seen: dict[str, Any], reason: str) -> None:
    what = decided(seen)
    assert isinstance(what, Stop)
    assert what.reason == reason


@pytest.mark.parametrize(("ending", "lead_s"), [("slurm", 10.0), ("skypilot", 40.0)])
def test_the_machine_is_ended_as_long_before_its_budget_as_that_may_take(ending: str, lead_s: float) -> None:
    """Skylet looks once a minute, so that most of it lies before the end of the budget."""
    assert isinstance(decided({"billed_s": LIMIT_S - lead_s + 1}, ending=ending), End)
    assert isinstance(decided({"billed_s": LIMIT_S - lead_s - 1}, ending=ending), Stop)


@pytest.mark.parametrize("limit_s", [120.0, 330.0, 14400.0])
def test_a_job_on_a_cloud_has_as_long_to_save_as_one_on_slurm(limit_s: float) -> None:
    def seconds_to_save(ending: str) -> int:
        hours = limit_s / 3600
        seconds = [decided({"billed_s": float(s)}, ending=ending, max_hours=hours) for s in range(int(limit_s))]
        return sum(isinstance(what, Stop) for what in seconds)

    assert seconds_to_save("skypilot") == seconds_to_save("slurm") >= 19


@pytest.mark.parametrize("seen", [{}, {"stop_age_s": 5.0}, ENDED, {**ENDED, "safe_age_s": 1.0}])
def test_when_the_budget_is_used_the_machine_goes_whatever_is_going_on(seen: dict[str, Any]) -> None:
    assert isinstance(decided({**seen, "billed_s": LIMIT_S - 9}), End)


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        ({}, Wait()),  # the machine's disk is the only copy
        ({"result_age_s": 9999.0}, Wait()),
        ({"safe_age_s": 10.0}, Wait()),  # whoever fetched them is about to end the machine
        ({"safe_age_s": 46.0}, End("the results are safe")),
        ({"has_output": False}, Wait()),  # for whoever wants to read the log
        ({"has_output": False, "result_age_s": 601.0}, End("there are no results to wait for")),
        ({"is_signalled": True}, Detach()),  # the machine is being taken away
    ],
)
def test_after_the_job(seen: dict[str, Any], what: Action) -> None:
    assert decided({**ENDED, **seen}) == what


def test_a_machine_to_keep_is_left_to_its_idle_timer_once_the_results_are_safe() -> None:
    assert decided(ENDED, on_finish="keep") == Wait()
    assert decided({**ENDED, "safe_age_s": 1.0}, on_finish="keep") == Detach()


def test_this_computer_is_never_ended() -> None:
    assert decided({**ENDED, "billed_s": LIMIT_S * 2}, ending="nobody") == Detach()
    assert isinstance(decided({"billed_s": LIMIT_S * 2}, ending="nobody"), Stop)


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        ({}, Wait()),
        ({"safe_age_s": 0.0}, Detach()),
        ({"is_signalled": True}, Detach()),
        ({"billed_s": LIMIT_S}, Detach()),  # a store that never answers keeps no process for ever
    ],
)
def test_a_run_on_this_computer_waits_for_its_store(seen: dict[str, Any], what: Action) -> None:
    assert decided({**ENDED, **seen}, ending="nobody", store_uri="s3://bucket/leaves") == what
