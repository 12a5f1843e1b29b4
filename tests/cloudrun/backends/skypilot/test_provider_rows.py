"""What providers list of our machines, in the shapes of their APIs: price, times, and whether it is up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cloudrun.backends.skypilot.provider_rows import (
    aws_machine,
    aws_transition,
    from_epoch,
    lambda_machine,
    runpod_change,
    runpod_machine,
    slurm_end,
    vast_machine,
)
from cloudrun.backends.skypilot.records import billed_quote
from tests.support.backends import a_machine
from tests.support.runs import a_runpod_quote

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
NAME = "cloudrun-plants-1124-x7k2m-fcd1e5cf-head"
RENTED = "Rented by User: Tue Nov 24 2026 06:58:00 GMT-0500 (Eastern Standard Time)"


def a_pod(**changes: Any) -> dict[str, Any]:
    pod = {"id": "p1", "name": NAME, "desiredStatus": "RUNNING", "costPerHr": 0.69, "lastStatusChange": RENTED}
    return {**pod, "uptimeSeconds": 0, **changes}


def test_a_pod_tells_its_price_and_since_when_it_is_rented() -> None:
    machine = runpod_machine(a_pod(), NOW)
    assert (machine.hourly_usd, machine.up_since) == (0.69, datetime(2026, 11, 24, 11, 58, tzinfo=UTC))
    assert (machine.stopped, machine.ended_at, machine.run_id) == (None, None, "plants-1124-x7k2m")


def test_a_pod_that_has_exited_tells_so_and_when() -> None:
    changed = "Exited by Runpod: Tue Nov 24 2026 11:59:30 GMT+0000 (Coordinated Universal Time)"
    machine = runpod_machine(a_pod(desiredStatus="EXITED", lastStatusChange=changed, uptimeSeconds=90), NOW)
    assert (machine.stopped, machine.up_since) == ("EXITED", None)
    assert machine.ended_at == datetime(2026, 11, 24, 11, 59, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "change", ["", None, "Rented by User", "Rented by User: yesterday", "x: Tue Foo 99 2026 1:2:3"]
)
def test_a_pod_without_a_readable_change_is_as_old_as_its_uptime(change: str | None) -> None:
    assert runpod_machine(a_pod(lastStatusChange=change), NOW).up_since is None
    assert runpod_machine(a_pod(lastStatusChange=change, uptimeSeconds=60), NOW).up_since == datetime(
        2026, 11, 24, 11, 59, tzinfo=UTC
    )


@pytest.mark.parametrize("price", [None, 0, "", "free", float("nan"), -1])
def test_a_pod_without_a_name_or_a_price_breaks_no_list(price: object) -> None:
    machine = runpod_machine({"id": "p1", "name": None, "costPerHr": price}, NOW)
    assert (machine.name, machine.hourly_usd, machine.stopped) == ("", None, "no status")


@pytest.mark.parametrize(
    ("status", "stopped"),
    [("running", None), ("loading", None), ("offline", None), (None, None), ("exited", "EXITED"),
     ("stopped", "STOPPED")],
)  # fmt: skip
def test_vast_tells_price_start_and_whether_it_was_stopped(status: str | None, stopped: str | None) -> None:
    one = {"id": 77, "label": NAME, "actual_status": status, "dph_total": 0.312, "start_date": 1795521480.5}
    machine = vast_machine(one)
    assert (machine.hourly_usd, machine.stopped, machine.handle) == (0.312, stopped, "77")
    assert machine.up_since == datetime(2026, 11, 24, 11, 58, tzinfo=UTC)


def test_lambda_tells_its_price_in_cents() -> None:
    one = {"id": "i", "name": NAME, "status": "active", "instance_type": {"price_cents_per_hour": 129}}
    assert lambda_machine(one).hourly_usd == 1.29
    assert lambda_machine({"id": "i", "name": None, "instance_type": None}).hourly_usd is None


@pytest.mark.parametrize(
    ("state", "stopped", "ended"),
    [
        ("running", None, False),
        ("pending", None, False),
        ("stopped", "stopped", True),
        ("terminated", "terminated", True),
    ],
)
def test_aws_tells_launch_and_end(state: str, stopped: str | None, ended: bool) -> None:
    instance = {
        "InstanceId": "i-1", "State": {"Name": state}, "LaunchTime": NOW,
        "Tags": [{"Key": "ray-cluster-name", "Value": "c"}],
        "StateTransitionReason": "User initiated (2026-11-24 12:05:06 GMT)",
    }  # fmt: skip
    machine = aws_machine("us-east-1", instance)
    assert (machine.handle, machine.up_since, machine.stopped) == ("us-east-1:i-1", NOW, stopped)
    assert machine.ended_at == (datetime(2026, 11, 24, 12, 5, 6, tzinfo=UTC) if ended else None)


def test_moments_that_nobody_wrote_are_none() -> None:
    assert aws_transition("") is aws_transition(None) is aws_transition("Server.SpotInstanceTermination") is None
    assert slurm_end("N/A") is None
    assert slurm_end("2026-11-24T12:00:00") == NOW
    assert from_epoch(None) is from_epoch("1") is from_epoch(0) is None
    assert runpod_change("Exited by Runpod: Tue Nov 24 2026 12:00:00 GMT+0000") == ("Exited by Runpod", NOW)


def test_the_providers_own_figure_holds_the_disk() -> None:
    billed = billed_quote(a_runpod_quote(), [a_machine(NAME, hourly_usd=0.966)])
    assert (billed.hourly_usd, billed.disk_hourly_usd, billed.source) == (0.966, 0.0, "what runpod bills")


@pytest.mark.parametrize("prices", [[], [None], [0.5, None], [0.5]])
def test_a_figure_that_is_not_of_all_machines_is_no_price(prices: list[float | None]) -> None:
    two = a_runpod_quote(nodes=2)
    assert billed_quote(two, [a_machine(NAME, hourly_usd=price) for price in prices]) == two
    assert billed_quote(two, [a_machine(NAME, hourly_usd=0.5)] * 2).hourly_usd == 1.0
