"""A provider that does wrong while it is asked for a machine: what was rented is never forgotten."""

from __future__ import annotations

import pytest

from tests.clouds.box import Box
from tests.clouds.jobs import GPUS, QUICK, launch, on, only_on_runpod
from tests.conftest import Shell

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


@only_on_runpod
def test_a_machine_whose_rent_was_not_confirmed_is_found_and_ended(shell: Shell, cloud: Box) -> None:
    """The provider rents it out, and the answer gets lost: what it bills nobody was told of."""
    cloud.faults(lose="podFindAndDeployOnDemand")
    code, _, said = launch(shell, shell.job(on(cloud.cloud, QUICK)))
    cloud.faults()
    assert code != 0, said
    shell("down", "--all", "--force", "--yes", timeout_s=300)
    assert cloud.up() == []
    listed = shell("ps", "--refresh", "--json", timeout_s=200).json
    assert [row for row in listed if row["billing"]] == []
