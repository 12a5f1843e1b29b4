"""`cloudrun demo`: the main job on this computer, from any folder, with nothing to edit."""

from __future__ import annotations

from cloudrun.job.staging import demo_job
from tests.support.checkout import CHECKOUT
from tests.support.shell import Shell


def test_the_demo_runs_here_wherever_it_is_typed_and_whatever_the_shell_says(shell: Shell) -> None:
    shell.env["CLOUDRUN_INFRA"] = "aws"
    done = shell("demo", "--dry-run", "--json")
    assert done.code == 0, done.err
    assert done.json["quote"]["infra"] == "local"
    assert done.json["quote"]["hourly_usd"] == 0.0
    assert done.json["data"]["source"] == "demo://leaves"


def test_the_demo_is_the_job_file_of_the_checkout() -> None:
    assert demo_job() == CHECKOUT / "jobs" / "demo.yaml"


def test_make_demo_is_the_same_command() -> None:
    assert "\n\t.venv/bin/cloudrun demo\n" in (CHECKOUT / "Makefile").read_text()
