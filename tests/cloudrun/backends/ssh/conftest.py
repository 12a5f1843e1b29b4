"""A machine of the user's own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sshd import Sshd, skip_without_sshd


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Sshd]:
    skip_without_sshd()
    sshd = Sshd(tmp_path / "machine")
    sshd.start()
    yield sshd
    sshd.stop()
