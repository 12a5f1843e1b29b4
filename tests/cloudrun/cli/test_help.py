"""What the command line says of itself: help by task, unknown commands, and what the shell completes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.shell import Shell

COMMAND = Path(sys.executable).parent / "cloudrun"


def completed(shell: Shell, *words: str) -> list[str]:
    """Return what bash is offered for the last word; `-X importtime` names each module on stderr."""
    env = {
        **shell.env,
        "_CLOUDRUN_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(("cloudrun", *words)),
        "COMP_CWORD": str(len(words)),
        "PYTHONPROFILEIMPORTTIME": "1",
    }
    done = subprocess.run([COMMAND], env=env, cwd=shell.folder, capture_output=True, text=True, timeout=120)
    slow = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()} & {"sky", "rich", "yaml"}
    assert slow == set()
    return done.stdout.split()


def test_help_lists_the_commands_by_task_each_with_its_whole_summary(shell: Shell) -> None:
    said = shell("--help").out
    tasks = ("Before the first run:", "Run:", "Look at a run:", "Results and the bill:", "More:")
    places = [said.index(f"\n{task}\n") for task in tasks]
    assert places == sorted(places)
    assert said.index("\n  launch ") in range(places[1], places[2])
    assert "..." not in said.split(tasks[0])[1]


def test_a_command_that_only_refuses_is_not_listed(shell: Shell) -> None:
    assert "sweep" not in shell("--help").out
    assert "`sweep` is not supported yet" in shell("sweep", "grid.yaml").err


@pytest.mark.parametrize("words", [("launch",), ("data", "push"), ("data",), ()])
def test_help_of_a_command_is_its_own_help(shell: Shell, words: tuple[str, ...]) -> None:
    done = shell("help", *words)
    assert done.code == 0
    assert done.out == shell(*words, "--help").out


def test_help_of_an_unknown_command_is_an_error(shell: Shell) -> None:
    done = shell("help", "launhc")
    assert done.code == 2
    assert "no such command 'launhc'. Did you mean 'launch'?" in done.err


def test_a_group_without_a_command_shows_its_help_and_no_error(shell: Shell) -> None:
    done = shell("data")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: ")


@pytest.mark.parametrize(("typed", "meant"), [("stop", "down"), ("status", "ps"), ("train", "launch"), ("ls", "ps")])
def test_another_tools_word_for_a_command_names_the_command(shell: Shell, typed: str, meant: str) -> None:
    done = shell(typed, "plants")
    assert done.code == 2
    assert done.err == (
        f"error: there is no command `{typed}`; did you mean `cloudrun {meant}`?\n\n"
        f"hint: `cloudrun help {meant}` explains it\n"
    )


def test_completion_for_another_shell_is_refused_rather_than_installed_for_this_one(shell: Shell) -> None:
    done = shell("--install-completion", "zsh")
    assert done.code == 2
    assert "hint: in zsh: `cloudrun --install-completion`" in done.err


def test_the_shell_completes_run_ids(shell: Shell) -> None:
    (shell.home / "ledger").mkdir(parents=True)
    for name in ("plants-1127-aaaaa.json", "plants-1128-bbbbb.json", "demo-1128-ccccc.json", "plants-1128-bbbbb.lock"):
        (shell.home / "ledger" / name).write_text("{}")
    assert set(completed(shell, "logs", "pl")) == {"plants-1127-aaaaa", "plants-1128-bbbbb"}
    assert completed(shell, "down", "demo-1128-ccccc", "d") == ["demo-1128-ccccc"]
    assert completed(shell, "resume", "d") == ["demo-1128-ccccc"]


def test_the_shell_completes_gpus_infras_clouds_and_commands(shell: Shell) -> None:
    assert completed(shell, "launch", "--gpu", "RTX40") == ["RTX4000-Ada", "RTX4070", "RTX4080", "RTX4090"]
    assert completed(shell, "launch", "--infra", "l") == ["local", "lambda"]
    assert completed(shell, "clouds", "l") == ["lambda"]
    assert completed(shell, "help", "la") == ["launch"]
    assert completed(shell, "laun") == ["launch"]


def test_without_a_ledger_no_run_is_completed(shell: Shell) -> None:
    assert completed(shell, "logs", "") == []
