"""`cloudrun clouds` runs SkyPilot's check, wherever SkyPilot's own command is."""

from __future__ import annotations

import subprocess

import pytest

from cloudrun.cli.clouds import check_command
from tests.support.checkout import CHECKOUT
from tests.support.shell import Shell

# A SkyPilot that has the entry point of the real one and answers at once: the real check starts an API server.
_SKY_CLI = """\
import json, sys

def cli():
    if "nosuch" in sys.argv:
        sys.exit("ValueError: Cloud 'nosuch' is not a valid cloud")
    print(json.dumps(sys.argv))
"""


@pytest.fixture
def tool(shell: Shell) -> Shell:
    """An installed tool: `sky` can be imported, and is no command on PATH."""
    package = shell.folder / "packages" / "sky"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "cli.py").write_text(_SKY_CLI)
    shell.env |= {"PYTHONPATH": f"{package.parent}:{CHECKOUT}", "PATH": str(shell.folder)}
    return shell


def test_every_cloud_is_checked_by_the_skypilot_of_the_tool(tool: Shell) -> None:
    done = tool("clouds")
    assert done.code == 0
    assert done.json == ["sky", "check", "--"]


def test_the_named_clouds_are_checked_and_the_answer_is_one_json_document(tool: Shell) -> None:
    done = tool("clouds", "aws", "runpod", "--json")
    assert done.json == ["sky", "check", "--output", "json", "--", "aws", "runpod"]


def test_a_check_that_fails_is_an_error_with_skypilots_own_words_above_it(tool: Shell) -> None:
    done = tool("clouds", "nosuch")
    assert done.code == 1
    said, error = done.err.split("error: ")
    assert "Cloud 'nosuch' is not a valid cloud" in said
    assert error.startswith("SkyPilot's check of the clouds ended with exit code 1\n\nhint: ")


def test_the_real_skypilot_knows_this_command() -> None:
    command = [*check_command([], as_json=True)[:-1], "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith("Usage: sky check [OPTIONS]")
    assert "--output" in done.stdout
