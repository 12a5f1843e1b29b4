"""A provider does wrong while it is asked for a machine: no machine that was rented is forgotten."""

from __future__ import annotations

import pytest

from tests.clouds.box import Box
from tests.clouds.jobs import GPUS, QUICK, launch, on, only_on_aws, only_on_runpod, wait_for
from tests.support.shell import Shell

pytestmark = pytest.mark.clouds


@only_on_runpod
def test_no_capacity_anywhere_ends_with_3_and_costs_nothing(shell: Shell, cloud: Box) -> None:
    before = len(cloud.bill())
    cloud.faults(no_capacity="all")
    code, out, said = launch(shell, shell.job(on(cloud.cloud, QUICK)))
    assert (code, out) == (3, ""), said
    assert f"there is no {GPUS[cloud.cloud]} on {cloud.cloud}" in said
    assert cloud.up() == []
    assert len(cloud.bill()) == before
    assert shell("ps", "--json").json == []


@pytest.mark.slow
@only_on_aws
def test_no_capacity_in_one_region_takes_the_next_while_requests_are_throttled(shell: Shell, cloud: Box) -> None:
    cloud.faults(no_capacity="us-east-1", throttle=3)
    code, run_id, said = launch(shell, shell.job(on(cloud.cloud, QUICK)))
    assert code == 0, said
    assert cloud.machine_of(run_id).where == "us-west-2"
    assert shell("cost", run_id, "--json").json[0]["region"] == "us-west-2"
    assert cloud.up() == []


@pytest.mark.slow
def test_a_machine_whose_rent_was_not_confirmed_is_found_and_ended(shell: Shell, cloud: Box) -> None:
    """The provider rents out a machine, and its answer gets lost: the machine bills, and nobody was told of it."""
    cloud.faults(lose={"aws": "RunInstances", "runpod": "podFindAndDeployOnDemand"}[cloud.cloud])
    code, _, said = launch(shell, shell.job(on(cloud.cloud, QUICK)))
    cloud.faults()
    assert code != 0, said
    shell("down", "--all", "--force", "--yes", timeout_s=300)
    assert cloud.up() == []
    listed = shell("ps", "--refresh", "--json", timeout_s=200).json
    assert [row for row in listed if row["billing"]] == []


@pytest.mark.slow
@only_on_aws
def test_an_end_that_the_provider_refused_is_called_unproven_and_down_ends_it_later(shell: Shell, cloud: Box) -> None:
    job = QUICK.replace("idle_minutes: 1", "idle_minutes: 10, on_finish: keep")
    code, run_id, said = launch(shell, shell.job(on(cloud.cloud, job)))
    assert code == 0, said
    cloud.faults(away="yes")
    done = shell("down", run_id, timeout_s=300)
    assert done.code == 1, done.err
    assert "is not proven: its provider, or SkyPilot's server, gave no answer within" in done.err
    assert shell("ps", "--json").json[0]["billing"] is True
    assert cloud.up() != []
    cloud.faults()
    wait_for(lambda: shell("down", run_id, timeout_s=300).code == 0, 240, "`down` once the provider answers")
    assert cloud.up() == []
