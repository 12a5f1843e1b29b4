"""`sky.yaml`'s set-up as the shell runs it: from where it takes packages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cloudrun.job.staging import base_task

PROGRAM = """\
#!/bin/sh
echo "$(basename "$0") $* pip=$PIP_INDEX_URL uv=$UV_DEFAULT_INDEX" >> "$HOME/calls"
case "$*" in *"install --quiet --user uv"*) mkdir -p "$HOME/.local/bin"; cp "$0" "$HOME/.local/bin/uv";; esac
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home folder of a machine that has the shell's tools and Python, and no uv."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "basename", "cp", "cut", "dirname", "flock", "head", "mkdir", "rm", "sh"):
        (tools / name).symlink_to(shutil.which(name) or pytest.skip(f"no {name} here"))
    (tools / "python3").write_text(PROGRAM)
    (tools / "python3").chmod(0o755)
    return tmp_path


def calls(home: Path, env: dict[str, str]) -> list[str]:
    """Run the set-up; return each call of Python and uv, with the indexes that they were told."""
    machine = {"HOME": str(home), "PATH": str(home / "tools"), "CLOUDRUN_CODE": "/code"}
    command = [str(home / "tools" / "bash"), "-c", base_task()["setup"]]
    subprocess.run(command, env={**machine, **env}, check=True, timeout=60)
    return (home / "calls").read_text().splitlines()


def test_a_mirror_in_the_jobs_environment_serves_pip_and_uv(home: Path) -> None:
    made = calls(home, {"UV_DEFAULT_INDEX": "https://mirror.test/simple"})
    assert [line.split()[0] for line in made] == ["python3", "python3", "uv", "uv"]
    assert all(line.endswith("pip=https://mirror.test/simple uv=https://mirror.test/simple") for line in made)


def test_an_index_of_pips_own_is_kept(home: Path) -> None:
    made = calls(home, {"UV_DEFAULT_INDEX": "https://mirror.test/simple", "PIP_INDEX_URL": "https://other.test/simple"})
    assert made[0].endswith("pip=https://other.test/simple uv=https://mirror.test/simple")


def test_without_a_mirror_nothing_is_told(home: Path) -> None:
    assert all(line.endswith("pip= uv=") for line in calls(home, {}))
