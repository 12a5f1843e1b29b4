"""Hold README's "What ends the bill", with the laptop off, to the provider's own times."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clouds.box import Box
from tests.clouds.endings import ENDINGS, Ended, Ending, end_all
from tests.clouds.jobs import CLOUDS

pytestmark = pytest.mark.clouds


@pytest.fixture(scope="module")
def ended(
    cloud: Box, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Ended | Exception]]:
    """Carry out the endings of all chosen tests, on machines side by side."""
    chosen = {item.name for item in request.session.items}
    endings = [ending for ending in ENDINGS if any(f"[{cloud.cloud}-{ending.name}]" in name for name in chosen)]
    yield end_all(cloud, tmp_path_factory.mktemp("endings"), endings)
    cloud.end_machines()


CASES = [
    pytest.param(
        cloud,
        ending,
        id=f"{cloud}-{ending.name}",
        marks=() if cloud in ending.is_in_short else pytest.mark.slow,
    )
    for cloud in CLOUDS
    for ending in ENDINGS
    if cloud in ending.clouds
]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("cloud", "ending"), CASES, indirect=["cloud"], scope="session")
def test_the_machine_ends_by_itself(cloud: Box, ending: Ending, ended: dict[str, Ended | Exception]) -> None:
    seen = ended[ending.name]
    assert isinstance(seen, Ended), seen
    assert seen.late_s is not None, f"{seen.machine.id} bills on, {seen.machine.seconds():.0f} s after its rent"
    assert seen.late_s <= ending.promised_s
    assert seen.machine.status.lower() == "terminated"  # the disk of a machine that is only stopped bills on
    listed = seen.shell("ps", "--refresh", "--all", "--json", timeout_s=200).json
    assert [row["billing"] for row in listed if row["run_id"] == seen.run_id] == [False]
