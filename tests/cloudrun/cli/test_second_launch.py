"""A job file that is launched while a run of it goes on, and keys that were typed before a question was shown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.checkout import CHECKOUT
from tests.support.shell import Shell
from tests.support.terminal import OpenTerminal, terminals

WAITS = "name: waits\ninfra: local\ndata: {source: .}\nrun: sleep 300\n"
ENDS = "name: ends\ninfra: local\ndata: {source: .}\nrun: 'true'\n"


@pytest.fixture
def at_terminal(shell: Shell) -> Iterator[OpenTerminal]:
    shell.env["PYTHONPATH"] = str(CHECKOUT)
    with terminals(shell) as open_terminal:
        yield open_terminal


def test_a_second_launch_of_a_job_with_a_run_says_so_and_goes_on(shell: Shell) -> None:
    (shell.folder / "data").mkdir()
    job = shell.job(WAITS.replace("source: .", "source: data"))
    first = shell("launch", "-d", job).out.strip()
    done = shell("launch", "-d", "--yes", job)
    assert done.code == 0, done.err
    assert f"warning: {first} of this job file is " in done.err
    assert f"`cloudrun down {first}` ends it" in done.err
    other = shell("launch", "-d", shell.job(WAITS.replace("source: .", "source: data"), "other.yaml"))
    assert "of this job file" not in other.err


def test_a_run_that_has_ended_is_not_mentioned_by_the_next_launch(shell: Shell) -> None:
    (shell.folder / "data").mkdir()
    job = shell.job(ENDS.replace("source: .", "source: data"))
    assert shell("launch", job).code == 0
    assert "of this job file" not in shell("launch", job).err


# A launch up to its question, at list prices: nothing is asked of a cloud.
_ASK = """\
import sys
from pathlib import Path
from cloudrun.cli.forecast import is_agreed
from cloudrun.job.job_file import load_job
from cloudrun.runs.prepared import at_list_price, examine
from cloudrun.state.home import home_folder
from cloudrun.state.ledger import Ledger
ledger = Ledger(home_folder())
prepared = at_list_price(examine(load_job(Path("job.yaml")), ledger, print), ledger)
is_agreed(prepared.forecast, "Rent it?", yes=False, is_second=sys.argv[1] == "second")
"""


@pytest.mark.parametrize(("which", "answers"), [("first", "[Y/n]"), ("second", "[y/N]")])
def test_a_second_run_that_costs_is_not_rented_by_enter(
    shell: Shell, at_terminal: OpenTerminal, which: str, answers: str
) -> None:
    shell.job(
        "name: p\ndata: {source: 'demo://leaves'}\ngpu: A10G:1\ninfra: aws\nbudget: {max_cost: 50, max_hours: 40}\n"
    )
    terminal = at_terminal("-c", _ASK, which)
    terminal.read_until(f"Rent it? {answers} ")


# Waits until the test has typed, then asks.
_ASK_LATE = """\
import pathlib, time
from cloudrun.cli.console import ask_for, confirm
print("thinking", flush=True)
while not pathlib.Path("typed").exists():
    time.sleep(0.05)
print("said", {question})
"""


@pytest.mark.parametrize(
    ("question", "shown"),
    [
        ("confirm('Rent it?', default=False)", "Rent it? [y/N] "),
        ("ask_for('go on?', 60)", "go on? [y/N, 60 s] "),
    ],
)
def test_keys_that_were_typed_before_the_question_answer_nothing(
    shell: Shell, at_terminal: OpenTerminal, question: str, shown: str
) -> None:
    terminal = at_terminal("-c", _ASK_LATE.format(question=question))
    terminal.read_until("thinking")
    terminal.type("y\ny\n")
    (shell.folder / "typed").touch()
    terminal.read_until(shown)
    terminal.type("\n")
    terminal.read_until("said False")
