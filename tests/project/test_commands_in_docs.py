"""Every command that the documents show exists, with its options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.exceptions import TyperException

import cloudrun.cli.main  # noqa: F401 - adds the commands
from cloudrun.cli.app import app
from tests.support.checkout import CHECKOUT

# Accepted decisions, notes, figures and releases keep the commands of their day.
_OF_THEIR_DAY = ("decisions", "lab-notes.md", "benchmarks.md", "CHANGELOG.md")
DOCUMENTS = [
    path
    for path in (*sorted(CHECKOUT.glob("*.md")), *sorted((CHECKOUT / "docs").rglob("*.md")))
    if not set(_OF_THEIR_DAY) & set(path.relative_to(CHECKOUT).parts)
]
_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
CLI = typer.main.get_command(app)


def typed(text: str) -> Iterator[str]:
    """Yield the command lines that a document asks its reader to type, without comments."""
    for kind, block in _BLOCK.findall(text):
        if kind in ("console", "bash", "sh"):
            yield from (line.strip().removeprefix("$ ") for line in block.splitlines() if line.strip().startswith("$ "))


def mentioned(text: str) -> Iterator[str]:
    """Yield the commands that a document names within a sentence."""
    yield from (span for span in _SPAN.findall(_BLOCK.sub("", text)))


def fault(line: str, *, is_whole: bool) -> str | None:
    """Return what is wrong with a `cloudrun` command; None where the command line takes it.

    `is_whole`: whether the line has every argument; else only the names of its command and options are compared.
    """
    words = shlex.split(line, comments=True)[1:]
    command: Any = CLI
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return f"no command {words[0]}"
        command = command.commands[words.pop(0)]
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"-h", "--help"}
    unknown = [word for word in words if word.startswith("-") and word != "-" and word.partition("=")[0] not in known]
    if unknown:
        return f"no option {unknown[0]}"
    if is_whole and not hasattr(command, "commands"):
        try:
            command.make_context("cloudrun", words)
        except TyperException as err:
            return err.format_message()
    return None


def _is_ours(line: str) -> bool:
    return re.match(r"cloudrun( |$)", line) is not None


def _without_notation(line: str) -> str:
    """Return a command without the brackets of `[RUN...]` and what stands for more: `...`."""
    return re.sub(r"\[[^]]*\]|\.\.\.|…|'|\"", "", line)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_command_that_is_shown_is_taken_by_the_command_line(document: Path) -> None:
    text = document.read_text()
    whole = [(line, fault(line, is_whole=True)) for line in typed(text) if _is_ours(line)]
    named = [(line, fault(_without_notation(line), is_whole=False)) for line in mentioned(text) if _is_ours(line)]
    assert [(line, wrong) for line, wrong in (*whole, *named) if wrong] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_target_of_make_that_is_shown_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    text = document.read_text()
    shown = [line for line in (*typed(text), *mentioned(text)) if re.match(r"make [a-z]", line)]
    assert [line for line in shown if line.split()[1] not in targets] == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("cloudrun launch -d --max-cost 3 jobs/a.yaml   # a comment", None),
        ("cloudrun predict last a.jpg --out -", None),
        ("cloudrun launch", "Missing argument 'JOB.yaml'."),
        ("cloudrun launch --cheap a.yaml", "no option --cheap"),
        ("cloudrun launch --max-cost much a.yaml", "Invalid value for '--max-cost'"),
        ("cloudrun data pack x", "no command pack"),
        ("cloudrun lanch a.yaml", "no command lanch"),
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str, wrong: str | None) -> None:
    found = fault(line, is_whole=True)
    assert found == wrong if wrong is None or found is None else wrong in found


def test_both_readmes_have_the_same_commands_and_as_many_ends_of_a_bill() -> None:
    english, chinese = ((CHECKOUT / name).read_text() for name in ("README.md", "README.zh-CN.md"))
    bare = [[shlex.split(line, comments=True) for line in typed(text)] for text in (english, chinese)]
    assert bare[0] == bare[1]
    rows = [len(re.findall(r"^\|", text, re.MULTILINE)) for text in (english, chinese)]
    assert rows[0] == rows[1] > 15
