"""The estimate as a person meets it: before a launch, while it trains, and in the next run's memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.shell import Shell
from tests.support.terminal import OpenTerminal, terminals

TINY = """\
name: tiny
infra: local
data: {source: "demo://leaves"}
train: {backbones: [test_resnet], pretrained: false, image_size: 32, epochs: 8, warmup_epochs: 1, batch_size: 16}
"""  # the worker looks once a second at what was timed: two epochs may be over before
# Twenty timed steps of a second, 7200 to go.
SLOW = """\
name: slow
infra: local
data: {source: .}
budget: {max_hours: 1}
run: |
  trap 'echo saved > $CLOUDRUN_OUTPUT/last.txt; exit 75' TERM
  echo '{"timing": {"timed_steps": 20, "timed_s": 20, "steps_per_epoch": 50, "steps_left": 7200,
    "evaluation_left_s": 0, "evaluation_is_measured": false}}' > $CLOUDRUN_OUTPUT/progress.json
  until [ -e $CLOUDRUN_OUTPUT/go ]; do sleep 0.05; done
  echo "went on to the end"
"""


def test_the_plan_shows_a_range_of_hours_its_parts_and_what_they_rest_on(shell: Shell) -> None:
    said = shell("launch", shell.job(TINY), "--dry-run").out
    assert re.search(r"^estimate \S+ s to .+ in all$", said, re.MULTILINE)
    assert re.search(r"^ +provision .+, setup .+, train .+$", said, re.MULTILINE)
    assert re.search(r"^ +from a guess for \d+ CPU cores$", said, re.MULTILINE)


def test_a_command_of_ones_own_has_no_estimate_and_says_why(shell: Shell) -> None:
    assert "estimate none: it is a command of your own" in shell("launch", shell.job(SLOW), "--dry-run").out


@pytest.mark.slow
def test_a_finished_run_is_remembered_and_the_next_estimate_rests_on_it(shell: Shell) -> None:
    job = shell.job(TINY)
    before = shell("launch", job, "--dry-run", "--json").json["estimate"]
    done = shell("launch", job)
    assert done.code == 0, done.err
    record = json.loads(next((shell.home / "ledger").glob("*.json")).read_text())
    assert record["estimate"] == before  # as it was before anything was rented
    measured = record["measured"]
    assert measured["kind"] == "test_resnet 32 px auto batch 16"
    for key in ("images_per_s", "evaluated_per_s", "start_s", "command_s", "setup_s", "upload_s", "release_s"):
        assert measured[key] > 0
    after = shell("launch", job, "--dry-run", "--json").json["estimate"]
    assert after["rests_on"].startswith("your last run of this kind on this computer")
    assert after["high_s"] / after["low_s"] < before["high_s"] / before["low_s"]
    assert record["projected_s"] > 0
    assert "timed steps on this machine" in record["corrected_rests_on"]
    assert shell("ps", "--all", "--json").json[0]["estimate_usd"] == 0.0


def test_a_corrected_estimate_over_the_budget_stops_the_run_at_once_with_4(shell: Shell) -> None:
    words = ["--max-hours", "0.06", "--set", "train.epochs=9999"]  # 216 s of budget, an hour of work
    done = shell("launch", shell.job(TINY), *words, timeout_s=200)
    assert done.code == 4, done.err
    assert "corrected estimate: " in done.err
    assert re.search(r"over_budget: corrected estimate \S+ h is over the cap of 0.06 h", done.err)
    assert (shell.folder / "runs" / done.out.strip() / "checkpoints" / "last.pt").exists()


@pytest.fixture
def at_terminal(shell: Shell) -> Iterator[OpenTerminal]:
    with terminals(shell) as open_terminal:
        yield open_terminal


QUESTION = "is over the cap of 1 h; go on until the budget ends it? [y/N, 60 s] "


def test_a_person_at_the_terminal_is_asked_and_may_go_on(shell: Shell, at_terminal: OpenTerminal) -> None:
    terminal = at_terminal("-m", "cloudrun", "launch", shell.job(SLOW))
    terminal.read_until(QUESTION)
    terminal.type("y\n")
    terminal.read_until("going on, as answered")
    (run_dir,) = (shell.home / "local").iterdir()
    (run_dir / "out" / "go").touch()
    assert terminal.end() == 0
    assert "went on to the end" in terminal.said


def test_enter_is_a_no_and_the_run_saves_and_stops(shell: Shell, at_terminal: OpenTerminal) -> None:
    terminal = at_terminal("-m", "cloudrun", "launch", shell.job(SLOW))
    terminal.read_until(QUESTION)
    terminal.type("\n")
    assert terminal.end() == 4
    assert "the answer was no" in terminal.said
    assert [path.read_text() for path in (shell.folder / "runs").glob("*/last.txt")] == ["saved\n"]


def test_ctrl_c_at_the_question_leaves_the_job_to_its_default(shell: Shell, at_terminal: OpenTerminal) -> None:
    terminal = at_terminal("-m", "cloudrun", "launch", shell.job(SLOW))
    terminal.read_until(QUESTION)
    terminal.type("\x03")
    assert terminal.end() == 130
    assert "without an answer the run saves and stops by itself" in terminal.said
    assert "goes on" in terminal.said


def test_yes_in_advance_means_that_nobody_is_asked(shell: Shell, at_terminal: OpenTerminal) -> None:
    terminal = at_terminal("-m", "cloudrun", "launch", "--yes", shell.job(SLOW))
    assert terminal.end() == 4
    assert "go on until the budget ends it?" not in terminal.said


@pytest.mark.parametrize(
    ("default", "typed", "answer"),
    [(False, "\n", "False"), (False, "y\n", "True"), (True, "\n", "True"), (True, "n\n", "False")],
)
def test_enter_takes_the_default_answer(
    shell: Shell, at_terminal: OpenTerminal, default: bool, typed: str, answer: str
) -> None:
    shell.env["PYTHONPATH"] = str(CHECKOUT)
    code = f"from cloudrun.cli.console import confirm; print('said', confirm('Rent it?', default={default}))"
    terminal = at_terminal("-c", code)
    terminal.read_until("Rent it? [Y/n] " if default else "Rent it? [y/N] ")
    terminal.type(typed)
    terminal.read_until(f"said {answer}")
