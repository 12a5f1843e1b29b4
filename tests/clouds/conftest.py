"""Rented machines without a provider: see `box`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clouds import box
from tests.clouds.box import Box, BoxUnavailable
from tests.clouds.jobs import CLOUDS
from tests.support.shell import Shell, images


@pytest.fixture(scope="session", params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> Iterator[Box]:
    """Start an account with SkyPilot's API server, of one cloud after the other."""
    base = Path(tempfile.mkdtemp(prefix=f"box-{request.param}-", dir="/tmp"))
    try:
        running = box.start(request.param, base)
    except BoxUnavailable as err:
        base.rmdir()
        pytest.skip(f"no cloud in a box here: {err}")
    yield running
    running.stop()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order all tests of one cloud before all of the next: there is never more than one box."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    call = getattr(item, "callspec", None)
    name = call.params.get("cloud") if call else None
    return CLOUDS.index(name) + 1 if name in CLOUDS else 0


@pytest.fixture
def shell(cloud: Box, tmp_path: Path) -> Iterator[Shell]:
    """Make a laptop whose SkyPilot knows the account; end what the test leaves, which would starve the next test."""
    shell = Shell(tmp_path)
    shell.env.update(cloud.env)
    images(tmp_path / "leaves")
    yield shell
    cloud.faults()
    if (shell.home / "ledger").is_dir():
        shell("down", "--all", "--force", "--yes", timeout_s=300)
    cloud.end_machines()
