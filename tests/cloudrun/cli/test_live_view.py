"""What a person at a terminal sees of a launch: stages, progress and cost at the bottom, the log above."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from rich.text import Text

from cloudrun.cli.footer import Footer
from cloudrun.render.running import bar_text, done_share, epoch_share, money_text, progress_text, stage_of
from cloudrun.state.records import Phase, Progress
from tests.support.checkout import CHECKOUT
from tests.support.runs import a_local_run
from tests.support.screen import screen_of
from tests.support.shell import Shell
from tests.support.terminal import OpenTerminal, terminals

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
STEPS = """\
name: steps
infra: local
data: {source: data}
budget: {max_cost: 5, max_hours: 2}
run: |
  echo '{"epoch": 2, "epochs": 4, "step": 10, "steps": 20, "eta_s": 65, "images_per_s": 312, "loss": 0.5}' \
> $CLOUDRUN_OUTPUT/progress.json
  for i in 1 2 3 4 5 6; do echo "line $i"; sleep 0.5; done
"""


def heartbeat(**told: object) -> Progress:
    return Progress.model_validate({"phase": "run", "heartbeat_at": NOW, **told})


@pytest.fixture
def at_terminal(shell: Shell) -> Iterator[OpenTerminal]:
    shell.env["PYTHONPATH"] = str(CHECKOUT)
    shell.env["TERM"] = "xterm-256color"
    (shell.folder / "data").mkdir()
    with terminals(shell) as open_terminal:
        yield open_terminal


@pytest.mark.parametrize(
    ("told", "share"),
    [
        ({"epoch": 1, "epochs": 6, "step": 0, "steps": 20}, 0.0),
        ({"epoch": 2, "epochs": 6, "step": 10, "steps": 20}, 0.25),
        ({"epoch": 6, "epochs": 6, "step": 20, "steps": 20}, 1.0),
        ({"epoch": 6, "epochs": 6}, 5 / 6),
        ({"epoch": 9, "epochs": 6, "step": 3, "steps": 0}, 1.0),
        ({"epoch": 1}, None),
        ({}, None),
    ],
)
def test_progress_counts_finished_steps(told: dict[str, int], share: float | None) -> None:
    assert done_share(heartbeat(**told)) == share


def test_progress_of_an_epoch_is_unknown_without_steps() -> None:
    assert epoch_share(heartbeat(epoch=1, epochs=2)) is None
    assert epoch_share(heartbeat(epoch=1, epochs=2, step=5, steps=20)) == 0.25


def test_progress_in_words_names_what_is_known() -> None:
    assert progress_text(None) == "no epoch yet"
    assert progress_text(heartbeat(epoch=3)) == "epoch 3"
    told = heartbeat(epoch=3, epochs=30, step=4, steps=9, images_per_s=312.4, loss=0.41341, eta_s=725)
    assert progress_text(told) == "epoch 3/30, step 4/9, 12 min 05 s left, 312 images/s, loss 0.4134"


@pytest.mark.parametrize(
    ("phase", "worker", "stage"),
    [
        (Phase.LAUNCHING, None, "rent"),
        (Phase.PREPARING, None, "set up"),
        (Phase.PREPARING, "prepare", "set up"),
        (Phase.PREPARING, "sync", "data"),
        (Phase.PREPARING, "run", "train"),
        (Phase.RUNNING, None, "train"),
        (Phase.FAILED, "run", "bring home"),
    ],
)
def test_the_stage_follows_the_record_and_the_heartbeat(phase: Phase, worker: str | None, stage: str) -> None:
    progress = None if worker is None else Progress.model_validate({"phase": worker, "heartbeat_at": NOW})
    assert stage_of(a_local_run("r", phase=phase), progress) == stage


def test_before_there_is_a_record_nothing_but_renting_goes_on() -> None:
    assert stage_of(None, None) == "rent"


def test_money_is_told_against_its_limits() -> None:
    run = a_local_run("r").model_copy(update={"job": {"budget": {"max_cost": 5.0, "max_hours": 4.0}}})
    assert money_text(run, NOW).endswith(" of 4 h")


@pytest.mark.parametrize(
    ("share", "bar"), [(None, "░░░░"), (0.5, "██░░"), (1.0, "████"), (7.0, "████"), (-1.0, "░░░░")]
)
def test_a_bar_shows_its_scale(share: float | None, bar: str) -> None:
    assert bar_text(share, 4) == bar


def test_lines_scroll_above_the_footer_which_stays_whole() -> None:
    stream = io.StringIO()
    footer = Footer(stream, size=lambda: (40, 24))
    footer.show([Text("one"), Text("two")])
    footer.show([Text("three"), Text("wide" * 20)], above="a line\nanother\n")
    assert screen_of(stream.getvalue(), columns=40) == ["a line", "another", "three", "wide" * 9 + "wi…"]
    footer.hide(above="the end\n")
    assert screen_of(stream.getvalue(), columns=40) == ["a line", "another", "the end"]


def test_a_terminal_that_became_narrow_has_wrapped_the_footer() -> None:
    stream, size = io.StringIO(), [60, 24]
    footer = Footer(stream, size=lambda: (size[0], size[1]))
    footer.show([Text("x" * 50), Text("y")])
    size[0] = 20
    before = len(stream.getvalue())
    footer.hide()
    assert stream.getvalue()[before:] == "\r\x1b[3A\x1b[J"  # of four rows, the cursor is in the last


def test_a_launch_at_a_terminal_shows_stage_progress_and_cost(shell: Shell, at_terminal: OpenTerminal) -> None:
    terminal = at_terminal("-m", "cloudrun", "launch", shell.job(STEPS))
    terminal.read_until("▸ train")
    terminal.read_until("epoch 2/4, step 10/20, 1 min 05 s left, 312 images/s")
    terminal.read_until("line 6")
    assert terminal.end() == 0
    shown = screen_of(terminal.said)
    assert not any("▸" in line or "░" in line for line in shown)
    assert [line for line in shown if line.startswith("line ")] == [f"line {number}" for number in range(1, 7)]
    assert "nothing is billing" in shown[-1]
    assert " 38%" in terminal.said


def test_ctrl_c_takes_the_view_away_and_the_run_goes_on(shell: Shell, at_terminal: OpenTerminal) -> None:
    terminal = at_terminal("-m", "cloudrun", "launch", shell.job(STEPS.replace("sleep 0.5", "sleep 60")))
    terminal.read_until("line 1")
    terminal.read_until("▸ train")
    terminal.type("\x03")
    assert terminal.end() == 130
    shown = screen_of(terminal.said)
    assert not any("▸" in line for line in shown)
    assert "goes on" in " ".join(shown[-4:])
    (row,) = shell("ps", "--json").json
    assert row["phase"] == "running"


def test_a_dumb_terminal_and_a_pipe_get_plain_lines(shell: Shell, at_terminal: OpenTerminal) -> None:
    shell.env["TERM"] = "dumb"
    terminal = at_terminal("-m", "cloudrun", "launch", shell.job(STEPS.replace("0.5; done", "0.01; done")))
    assert terminal.end() == 0
    assert "\x1b" not in terminal.said
    assert "▸" not in terminal.said
    assert "▸" not in shell("launch", "job.yaml").err


def test_a_detached_launch_leaves_only_lines(shell: Shell, at_terminal: OpenTerminal) -> None:
    terminal = at_terminal("-m", "cloudrun", "launch", "-d", shell.job(STEPS))
    assert terminal.end() == 0
    shown = screen_of(terminal.said)
    assert not any("▸" in line for line in shown)
    assert "it goes on by itself" in " ".join(shown)


def test_the_heartbeat_passes_on_what_the_view_shows(shell: Shell, at_terminal: OpenTerminal) -> None:
    run_id = shell("launch", "-d", shell.job(STEPS)).out.strip()
    status = shell.home / "local" / run_id / "status.json"
    until = time.monotonic() + 30
    while not status.exists() or "step" not in status.read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
    told = json.loads(status.read_text())
    assert (told["step"], told["steps"], told["images_per_s"], told["loss"]) == (10, 20, 312, 0.5)
