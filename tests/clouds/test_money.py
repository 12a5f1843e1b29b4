"""Compare what is billed with the provider's own times and prices: price, deadline, and lost machines."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clouds.box import Box, Rented
from tests.clouds.jobs import (
    ENDLESS,
    QUICK,
    assert_receipt_agrees,
    launch,
    on,
    only_on_aws,
    only_on_runpod,
    wait_for,
)
from tests.support.shell import Shell

pytestmark = [pytest.mark.clouds, pytest.mark.slow]

_NEVER = "budget: {max_cost: 1, rent_minutes: 0.6}\n"


def receipt_of(shell: Shell, run_id: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = shell("cost", run_id, "--json").json
    return rows[0]


def assert_agrees(cost: dict[str, Any], machine: Rented) -> None:
    """Compare the receipt with the provider's own times and prices: within 10 s and a cent."""
    assert cost["hours"] * 3600 == pytest.approx(machine.seconds(), abs=10)
    hourly = machine.hourly_usd or cost["hourly_usd"] + cost["disk_hourly_usd"]
    assert cost["cost_usd"] == pytest.approx(machine.seconds() / 3600 * hourly, abs=0.01)
    assert cost["is_final"]


def a_run_that_goes_on(shell: Shell, cloud: Box) -> str:
    code, run_id, said = launch(shell, "-d", shell.job(on(cloud.cloud, ENDLESS)))
    assert code == 0, said
    return run_id


def test_the_receipt_is_what_the_provider_bills(shell: Shell, cloud: Box) -> None:
    code, run_id, said = launch(shell, shell.job(on(cloud.cloud, QUICK)))
    assert code == 0, said
    machine = cloud.machine_of(run_id)
    assert_receipt_agrees(shell.folder / "runs" / run_id, machine)
    cost = receipt_of(shell, run_id)
    assert_agrees(cost, machine)
    assert (cost["start_is"], cost["end_is"]) == ("the provider's time of the machine", "proven")


@only_on_runpod
def test_a_machine_that_is_dearer_than_agreed_is_given_back(shell: Shell, cloud: Box) -> None:
    cloud.faults(price_factor=1.4)
    code, out, said = launch(shell, shell.job(on(cloud.cloud, QUICK)))
    assert (code, out) == (3, ""), said
    assert "an hour, and $0.7037 was agreed to, 37% more" in said
    assert cloud.up() == []
    (row,) = shell("ps", "--all", "--json").json
    cost = receipt_of(shell, row["run_id"])
    assert cost["hourly_usd"] == pytest.approx(0.966)
    assert_agrees(cost, cloud.machine_of(row["run_id"]))


@only_on_runpod
def test_a_machine_that_never_gets_ready_is_given_up_and_the_next_is_tried(shell: Shell, cloud: Box) -> None:
    cloud.faults(ready="no")
    job = on(cloud.cloud, QUICK + _NEVER).replace("gpu: RTX4090:1", "gpu: [RTX4090:1, A100-80GB:1]")
    code, out, said = launch(shell, shell.job(job))
    assert (code, out) == (3, ""), said
    assert "no machine came within 36.0 s: RTX4090:1 of runpod/" in said
    assert "trying A100-80GB:1" in said
    assert cloud.up() == []
    (row,) = shell("ps", "--all", "--json").json
    rented = [one for one in cloud.bill() if row["run_id"] in one.name]
    cost = receipt_of(shell, row["run_id"])
    assert cost["hours"] * 3600 == pytest.approx(sum(one.seconds() for one in rented), abs=10 * len(rented))
    assert cost["is_final"]


@only_on_runpod
def test_a_down_from_elsewhere_while_it_is_rented_is_proven_and_has_a_bill(shell: Shell, cloud: Box) -> None:
    cloud.faults(ready="no")
    with shell.start("launch", "--yes", shell.job(on(cloud.cloud, QUICK))) as renting:
        wait_for(lambda: cloud.up(), 120, "a pod")
        wait_for(lambda: [row["phase"] for row in shell("ps", "--json").json] == ["launching"], 60, "the ledger")
        done = shell("down", timeout_s=300)
        renting.wait(120)
    assert done.code == 0, done.err
    assert renting.returncode == 130
    assert cloud.up() == []
    (row,) = shell("ps", "--all", "--json").json
    assert row["phase"] == "stopped"
    assert_agrees(receipt_of(shell, row["run_id"]), cloud.machine_of(row["run_id"]))


def test_a_machine_that_is_taken_away_is_lost_and_bills_no_more(shell: Shell, cloud: Box) -> None:
    run_id = a_run_that_goes_on(shell, cloud)
    machine = cloud.machine_of(run_id)
    wait_for(lambda: "up\n" in shell("logs", "--no-follow").out, 300, "the job's first line")
    with shell.start("logs", run_id) as following:
        cloud.take_away(machine)
        following.wait(240)
        assert following.stderr is not None
        said = following.stderr.read()
    assert following.returncode == 1, said
    (row,) = shell("ps", "--refresh", "--all", "--json", timeout_s=200).json
    assert (row["phase"], row["billing"]) == ("lost", False)
    assert row["message"].startswith("it left no result: ")
    assert cloud.up() == []
    assert [one.status for one in cloud.bill() if one.id == machine.id] in (["TERMINATED"], ["terminated"])
    assert_agrees(receipt_of(shell, run_id), cloud.machine_of(run_id))


@only_on_aws
def test_a_machine_that_is_stopped_is_not_thrown_away_with_the_only_copy_of_the_results(
    shell: Shell, cloud: Box
) -> None:
    run_id = a_run_that_goes_on(shell, cloud)
    machine = cloud.machine_of(run_id)
    cloud.switch_off(machine)
    listed = shell("ps", "--refresh", "--all", "--json", timeout_s=200)
    assert [row["phase"] for row in listed.json] == ["lost"]
    assert "is stopped, and its disk, which bills, may hold results that are not home" in listed.err
    kept = shell("down", timeout_s=200)
    assert (kept.code, "may hold results" in kept.err) == (1, True)
    done = shell("down", "--force", "--yes", timeout_s=200)
    assert done.code == 0, done.err
    assert cloud.up() == []
    assert receipt_of(shell, run_id)["is_final"]
