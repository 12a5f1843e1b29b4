"""What launch says of a machine's end is what the infra can do."""

from __future__ import annotations

import pytest

from cloudrun.catalog.endings import has_autodown, how_it_ends


@pytest.mark.parametrize(
    ("infra", "said"),
    [
        ("slurm", "ends its Slurm allocation; beneath that, SkyPilot's timer after 10 idle minutes"),
        ("aws/us-east-1", "has SkyPilot end it, within 75 s of the budget's end; beneath that"),
        (None, "has SkyPilot end it, within 75 s of the budget's end; beneath that"),
        ("verda", "no autodown on verda: the watchdog on it asks SkyPilot all the same"),
    ],
)
def test_launch_says_how_each_infra_is_stopped(infra: str | None, said: str) -> None:
    assert said in how_it_ends(infra, idle_minutes=10)


def test_an_idle_timer_is_only_asked_for_where_there_is_one() -> None:
    assert has_autodown("runpod")
    assert not has_autodown("hyperbolic/somewhere")
