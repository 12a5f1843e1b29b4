"""What every test shares: a ledger of its own, a way to type commands, and data where they lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.seaweedfs import SeaweedFS
from tests.support.shell import Shell, images


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Whatever a test leaves running on this computer is ended with it."""
    shell = Shell(tmp_path)
    yield shell
    if (shell.home / "ledger").is_dir():
        shell("down", "--all", "--force", "--yes")


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """One S3 server for all tests; each keeps to a prefix of its own."""
    server = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def leaves(tmp_path: Path) -> Path:
    return images(tmp_path / "leaves")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and weights: `CLOUDRUN_SHARED`, or a folder `shared` beside the checkout."""
    folder = Path(os.environ.get("CLOUDRUN_SHARED", CHECKOUT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder
