"""`cloudrun doctor`: what is there, what is missing, and the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudrun.cli.doctor import enabled_in
from cloudrun.runs.doctor import CloudsAnswer, Diagnosis, Finding, State, diagnose
from tests.support.checkout import CHECKOUT
from tests.support.shell import Shell

# A SkyPilot with the entry point of the real one: the real check starts an API server, and asks clouds.
ANSWERS = """\
import json, sys

def cli():
    print(json.dumps({"default": {"RunPod": ["compute"], "AWS": ["compute", "storage"], "Cloudflare": ["storage"]}}))
"""
NONE_ENABLED = 'def cli():\n    print("{}")\n'
FAILS = 'import sys\n\ndef cli():\n    sys.exit("ConnectionError: the server did not start")\n'
HANGS = """\
import pathlib, os, time

def cli():
    pathlib.Path(os.environ["HOME"], "asking.pid").write_text(str(os.getpid()))
    time.sleep(600)
"""


@pytest.fixture
def person(shell: Shell) -> Shell:
    """Somebody without any program on PATH."""
    shell.env |= {"PATH": str(shell.folder), "PYTHONPATH": f"{shell.folder / 'packages'}:{CHECKOUT}"}
    return shell


def with_sky(shell: Shell, source: str) -> Shell:
    package = shell.folder / "packages" / "sky"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "cli.py").write_text(source)
    return shell


def with_programs(shell: Shell) -> Shell:
    for name, said in {"ssh": "OpenSSH", "rsync": "rsync  version 3.2.7  protocol version 31"}.items():
        (shell.folder / name).write_text(f"#!/bin/sh\necho '{said}'\n")
        (shell.folder / name).chmod(0o755)
    return shell


def test_with_a_cloud_and_the_programs_a_run_can_be_launched_on_a_rented_machine(person: Shell) -> None:
    done = with_sky(with_programs(person), ANSWERS)("doctor", "--json")
    assert done.code == 0, done.err
    checks = {check["name"]: check for check in done.json["checks"]}
    assert (done.json["ok"], done.json["launch_rented"]) == (True, True)
    assert checks["clouds"]["found"] == "aws, runpod enabled"
    assert checks["rsync"]["found"] == f"3.2.7, {person.folder}/rsync"


def test_each_thing_that_is_missing_has_its_next_step(person: Shell) -> None:
    done = with_sky(person, NONE_ENABLED)("doctor", "--json")
    missing = {check["name"]: check["next_step"] for check in done.json["checks"] if check["state"] == "missing"}
    assert missing.keys() >= {"ssh", "rsync", "git", "clouds"}
    assert all(missing.values())
    assert done.json["launch_rented"] is False


def test_the_answer_for_a_person_says_where_a_run_can_be_launched_and_what_to_do(person: Shell) -> None:
    done = with_sky(person, NONE_ENABLED)("doctor")
    assert "a run on a rented machine:  not possible\n\nnext steps:\n- " in done.out
    assert "`cloudrun clouds` shows what each cloud lacks" in done.out
    assert "asking SkyPilot which clouds are enabled, for 60 s at most" in done.err


def test_a_check_that_hangs_is_ended_and_its_answer_is_unknown(person: Shell) -> None:
    done = with_sky(with_programs(person), HANGS)("doctor", "--json", "--wait", "5")
    (clouds,) = (check for check in done.json["checks"] if check["name"] == "clouds")
    assert (clouds["state"], clouds["found"]) == ("unknown", "SkyPilot gave no answer within 5 s")
    assert done.json["launch_rented"] is None
    asked = person.folder / "asking.pid"
    assert not asked.is_file() or not Path("/proc", asked.read_text()).exists()


def test_a_check_that_fails_is_told_in_its_own_words(person: Shell) -> None:
    done = with_sky(person, FAILS)("doctor")
    assert "SkyPilot's check failed: ConnectionError: the server did not start" in done.out


def test_without_waiting_nobody_is_asked(person: Shell) -> None:
    done = person("doctor", "--wait", "0")
    assert "clouds       unknown  not asked" in done.out
    assert "asking SkyPilot" not in done.err


def test_a_home_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    home = tmp_path / "a file" / "home"
    home.parent.write_text("")
    found = diagnose(home, CloudsAnswer(("aws",)))
    (folder,) = (one for one in found.findings if one.name == "home folder")
    assert folder.state is State.MISSING
    assert folder.found == f"{home} cannot be written: Not a directory"
    assert not found.can_launch


@pytest.mark.parametrize(
    ("here", "rented", "can_launch"),
    [
        (State.OK, State.MISSING, True),
        (State.MISSING, State.OK, True),
        (State.MISSING, State.UNKNOWN, False),
        (State.MISSING, State.MISSING, False),
    ],
)
def test_one_place_is_enough_for_a_launch(here: State, rented: State, can_launch: bool) -> None:
    trainer, clouds = Finding("trainer", here, "", for_here=True), Finding("clouds", rented, "", for_rented=True)
    assert Diagnosis((trainer, clouds)).can_launch is can_launch


@pytest.mark.parametrize("content", [b"", b"no JSON", b"[]", b'{"default": ["AWS"]}', b"null"])
def test_an_answer_of_another_shape_is_no_answer(content: bytes) -> None:
    assert enabled_in(content) is None


def test_the_first_check_of_a_computer_starts_skypilots_server_and_says_so_before_its_answer() -> None:
    before = (
        b"\x1b[2mFailed to connect to SkyPilot API server at http://127.0.0.1:46580. Starting a local server.\x1b[0m\n"
    )
    assert enabled_in(before + b'{\n  "default": {"AWS": ["compute"]}\n}\n') == ("aws",)
    assert enabled_in(before + b'{\n  "default": {}\n}\n') == ()
