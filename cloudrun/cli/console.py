"""The two streams: the answer goes to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from cloudrun.errors import CloudrunError, ExitCode, Interrupted, UsageError, brief
from cloudrun.text.pace import Pace

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def answer(text: str) -> None:
    """What the command was asked for. A letter that the terminal's encoding has not is written by its number."""
    try:
        sys.stdout.write(f"{text}\n")
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding
        sys.stdout.write(f"{text.encode(encoding, 'backslashreplace').decode(encoding)}\n")
    sys.stdout.flush()


def answer_json(value: Any) -> None:
    answer(json.dumps(value, indent=2))


def note(text: str) -> None:
    """News for a person; nobody listening must not stop a clean-up that ends a bill."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def say(text: str) -> None:
    """News of what goes on, for a person."""
    note(f"cloudrun: {text}")


def warn(text: str) -> None:
    note(f"{paint('warning:', '33', sys.stderr)} {text}")


def alarm(text: str) -> None:
    """A warning of what makes the run worthless."""
    note(f"{paint('warning:', '1;31', sys.stderr)} {text}")


def show_error(err: CloudrunError) -> None:
    note(f"{paint('error:', '31', sys.stderr)} {err.message}\n\nhint: {err.hint}")


def show_failure(err: Exception, what: str) -> int:
    """Say what failed for one of several runs, and return the exit code that it deserves; the others go on."""
    if isinstance(err, CloudrunError):
        show_error(err)
        return err.exit_code
    if isinstance(err, OSError):
        warn(f"{what}: {brief(err)}")
        return ExitCode.FAILED
    import traceback

    note("".join(traceback.format_exception(err)))
    warn(f"{what}: {brief(err)}; this is a bug in cloudrun, please report it with the lines above")
    return ExitCode.BUG


def is_terminal(stream: Any) -> bool:
    return bool(stream.isatty())


def paint(text: str, code: str, stream: Any) -> str:
    """ANSI colour where a person looks, plain text elsewhere (`NO_COLOR` too)."""
    if os.environ.get("NO_COLOR") or not is_terminal(stream):
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def confirm(question: str, *, default: bool) -> bool:
    """Ask on the terminal. Raises UsageError where nobody can answer."""
    if not may_ask():
        raise UsageError(f"{question} cannot be asked: there is no terminal", hint="add `--yes` to agree in advance")
    sys.stderr.write(f"{question} [{'Y/n' if default else 'y/N'}] ")
    sys.stderr.flush()
    try:
        line = sys.stdin.readline()
    except KeyboardInterrupt:
        note("")
        raise Interrupted("interrupted before anything was done", hint="type the command again when you like") from None
    if not line:
        note("")
        return False
    typed = line.strip().lower()
    return typed in ("y", "yes") if typed else default


def may_ask() -> bool:
    """Whether a person is there to answer."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def agree(question: str, wait_s: float) -> bool:
    """As `ask_for`, where Ctrl-C says for itself what it does."""
    return ask_for(question, wait_s, if_interrupted="")


def ask_for(
    question: str, wait_s: float, *, if_interrupted: str = "without an answer the run saves and stops by itself"
) -> bool:
    """Ask on the terminal and wait so many seconds; anything but a yes is a no. Ctrl-C goes to the caller."""
    try:
        sys.stderr.write(f"{question} [y/N, {wait_s:.0f} s] ")
        sys.stderr.flush()
        answers, _, _ = select.select([sys.stdin], [], [], wait_s)
        line = sys.stdin.readline() if answers else ""
    except KeyboardInterrupt:
        note("")
        if if_interrupted:
            note(if_interrupted)
        raise
    if not line:
        note("")
    return line.strip().lower() in ("y", "yes")


class Transfer:
    """Progress of one transfer: a bar on a terminal, below the lines that go on above it; else a line now and then.

    `files`: how many are sent, where whoever sends them does not tell how many have gone.
    """

    def __init__(self, what: str, *, files: int | None = None) -> None:
        self._what = what
        self._files = files
        self._pace = Pace()
        self._ended = False
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()  # else the cursor stays hidden
            self._bar = None

    def __call__(self, sent: int, total: int, files: tuple[int, int] | None = None) -> None:
        """`sent` of `total` bytes have gone, and (some, of so many) files."""
        if self._ended:
            return
        if self._bar is None and is_terminal(sys.stderr):
            self._draw(total)
        if self._bar is not None and self._task is not None:
            count = f"{files[0]}/{files[1]} files" if files else f"{self._files} files" if self._files else ""
            self._bar.update(self._task, completed=sent, total=total, count=count)
        elif self._pace.is_due(sent) and sent < total:
            note(f"cloudrun: {self._what}: {self._pace.text(sent, total, files=files)}")
        self._pace.elapsed_s(sent)
        if sent >= total and (files is None or files[0] >= files[1]):
            self._ended = True
            self.__exit__()
            count_all = (self._files, self._files) if files is None and self._files else files
            note(f"cloudrun: {self._what}: {self._pace.text(sent, total, files=count_all)}")

    def _draw(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (BarColumn(), DownloadColumn(), TextColumn("{task.fields[count]}"), TransferSpeedColumn())
        self._bar = Progress(self._what, *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(self._what, total=total, count="")
        self._bar.start()
