"""The two streams: the answer goes to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from cloudrun.errors import CloudrunError, Interrupted, UsageError
from cloudrun.units import duration, size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def answer(text: str) -> None:
    """What the command was asked for."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def answer_json(value: Any) -> None:
    answer(json.dumps(value, indent=2))


def note(text: str) -> None:
    """News for a person; nobody listening must not stop a clean-up that ends a bill."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def warn(text: str) -> None:
    note(f"{paint('warning:', '33', sys.stderr)} {text}")


def alarm(text: str) -> None:
    """A warning of what makes the run worthless."""
    note(f"{paint('warning:', '1;31', sys.stderr)} {text}")


def show_error(err: CloudrunError) -> None:
    note(f"{paint('error:', '31', sys.stderr)} {err.message}\n\nhint: {err.hint}")


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


def ask_for(question: str, wait_s: float) -> bool:
    """Ask on the terminal and wait so many seconds; anything but a yes is a no. Ctrl-C goes to the caller."""
    try:
        sys.stderr.write(f"{question} [y/N, {wait_s:.0f} s] ")
        sys.stderr.flush()
        answers, _, _ = select.select([sys.stdin], [], [], wait_s)
        line = sys.stdin.readline() if answers else ""
    except KeyboardInterrupt:
        note("")
        note("without an answer the run saves and stops by itself")
        raise
    if not line:
        note("")
    return line.strip().lower() in ("y", "yes")


class Transfer:
    """Progress of one transfer: a bar on a terminal, below the lines that go on above it; else one line at its end."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began: float | None = None
        self._ended = False
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()  # else the cursor stays hidden

    def __call__(self, sent: int, total: int) -> None:
        """`sent` of `total` bytes have gone."""
        if self._began is None:
            self._began = time.monotonic()
            if is_terminal(sys.stderr):
                self._draw(total)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=sent)
        if sent >= total and not self._ended:
            self._ended = True
            self.__exit__()
            elapsed = max(time.monotonic() - self._began, 1e-6)
            note(f"cloudrun: {self._what}: {size(total)} in {duration(elapsed)} ({size(total / elapsed)}/s)")

    def _draw(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._bar = Progress(self._what, *columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(self._what, total=total)
        self._bar.start()
