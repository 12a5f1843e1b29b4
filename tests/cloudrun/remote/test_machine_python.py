"""Which Python a rented machine runs what cloudrun brings with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloudrun.remote.python import FIND_PYTHON


def python_of(folder: Path, home: Path) -> str:
    script = FIND_PYTHON + '"$python" -c "import sys; print(sys.argv[1])" "$python"'
    env = {"PATH": str(folder), "HOME": str(home)}
    return subprocess.run(["/bin/sh", "-c", script], env=env, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """SkyPilot's own Python on a machine."""
    place = tmp_path / "skypilot-runtime" / "bin" / "python"
    place.parent.mkdir(parents=True)
    place.symlink_to(os.path.realpath(sys.executable))
    return place


def test_a_machine_without_python_uses_the_one_that_skypilot_brought(tmp_path: Path, runtime: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert python_of(tmp_path / "empty", tmp_path) == str(runtime)


def test_a_python_that_is_too_old_is_not_used(tmp_path: Path, runtime: Path) -> None:
    old = tmp_path / "old" / "python3"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\nexit 1\n")  # as `sys.exit(sys.version_info < (3, 10))` ends there
    old.chmod(0o755)
    assert python_of(old.parent, tmp_path) == str(runtime)


def test_the_machines_own_python_comes_first(tmp_path: Path, runtime: Path) -> None:
    own = tmp_path / "own" / "python3"
    own.parent.mkdir()
    own.symlink_to(os.path.realpath(sys.executable))
    assert python_of(own.parent, tmp_path) == "python3"
