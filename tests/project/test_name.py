"""The distribution is `cloudrun-gpu`, command and import are `cloudrun`: PyPI's `cloudrun` is another project."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import distribution, version
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.shell import Shell

_FOLDERS = (".ci", ".github", "benchmarks", "changes", "cloudrun", "docs", "jobs", "tests", "trainer")
_INSTALLERS = r"(pip3? install|uv add|uv tool (install|run|upgrade)|uvx|pipx (install|run|upgrade))"
_INSTALLS_ANOTHER_PROJECT = re.compile(_INSTALLERS + r"\s([^\n`]*[\s'\"])?cloudrun(?![\w/-])")


def _texts() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of every file of the project but this one."""
    paths = [path for path in CHECKOUT.iterdir() if path.is_file() and path.name != "uv.lock"]
    for folder in _FOLDERS:
        paths += [path for path in (CHECKOUT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    for path in paths:
        if path != Path(__file__):
            yield str(path.relative_to(CHECKOUT)), path.read_text(encoding="utf-8", errors="replace")


def test_the_distribution_has_a_name_of_its_own_and_the_command_is_cloudrun() -> None:
    installed = distribution("cloudrun-gpu")
    commands = {entry.name: entry.value for entry in installed.entry_points if entry.group == "console_scripts"}
    assert commands == {"cloudrun": "cloudrun.__main__:run"}


def test_nothing_tells_anybody_to_install_the_other_project() -> None:
    found = [f"{name}: {line}" for name, text in _texts() for line in text.splitlines()
             if _INSTALLS_ANOTHER_PROJECT.search(line)]  # fmt: skip
    assert found == []


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("pip install cloudrun", True),
        ("`pip install 'cloudrun[trainer]'`", True),
        ("uv tool install --with-executables-from skypilot cloudrun", True),
        ("uvx cloudrun launch", True),
        ("pip install 'cloudrun-gpu[trainer]'", False),
        ("uv tool install --with-executables-from skypilot 'cloudrun-gpu[aws]'  # gives `cloudrun`", False),
        ("pip install torch, then `cloudrun launch`", False),
        ("uv pip install -r ~/cloudrun/requirements.txt", False),
    ],
)
def test_the_search_finds_what_would_install_it(line: str, is_found: bool) -> None:
    assert bool(_INSTALLS_ANOTHER_PROJECT.search(line)) is is_found


def test_the_command_says_its_version(shell: Shell) -> None:
    done = shell("--version")
    assert (done.code, done.out) == (0, f"cloudrun {version('cloudrun-gpu')}\n")
