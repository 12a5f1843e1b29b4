"""Write a command's answer to stdout, and everything else to stderr.

Text for a terminal passes `for_terminal` here, whoever wrote it; a file or a pipe gets the text as it was written.
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from cloudrun.cli.typed_ahead import forget_typed_ahead
from cloudrun.errors import CloudrunError, ExitCode, Interrupted, UsageError, brief
from cloudrun.text.pace import Pace
from cloudrun.text.terminal import for_terminal

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def answer(text: str) -> None:
    """Write what the command was asked for. A letter that the terminal's encoding lacks is written by its number."""
    text = _safe(text, sys.stdout)
    try:
        sys.stdout.write(f"{text}\n")
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding
        sys.stdout.write(f"{text.encode(encoding, 'backslashreplace').decode(encoding)}\n")
    sys.stdout.flush()


def answer_json(value: Any) -> None:
    answer(json.dumps(value, indent=2))


def note(text: str) -> None:
    """Write news for a person. A stream that nobody reads is no error: it must not stop a clean-up that ends a bill."""
    with suppress(OSError, ValueError):
        if _above is not None:
            _above(_safe(text, sys.stderr))
            return
        sys.stderr.write(f"{_safe(text, sys.stderr)}\n")
        sys.stderr.flush()


_above: Callable[[str], None] | None = None
"""Takes the lines for stderr while a live view stands at the bottom of the terminal."""


@contextmanager
def lines_go_to(write: Callable[[str], None]) -> Iterator[None]:
    """Pass the lines of `note` to `write` instead of stderr."""
    global _above
    before, _above = _above, write
    try:
        yield
    finally:
        _above = before


def say(text: str) -> None:
    """Write news of what goes on, for a person."""
    note(f"cloudrun: {text}")


def warn(text: str) -> None:
    """Write a warning."""
    note(f"{paint('warning:', '33', sys.stderr)} {text}")


def alarm(text: str) -> None:
    """Write a warning, bold, of a problem that makes the run worthless."""
    note(f"{paint('warning:', '1;31', sys.stderr)} {text}")


def show_error(err: CloudrunError) -> None:
    """Write an error's message and its hint. Ctrl-C is no error: the user wanted it."""
    if isinstance(err, Interrupted):
        note(f"{err.message}\n\nhint: {err.hint}")
        return
    note(f"{paint('error:', '31', sys.stderr)} {err.message}\n\nhint: {err.hint}")


def show_failure(err: Exception, what: str) -> int:
    """Write what failed for one of several runs, and return the exit code for it; the other runs go on."""
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


def _safe(text: str, stream: Any) -> str:
    return for_terminal(text) if is_terminal(stream) else text


def paint(text: str, code: str, stream: Any) -> str:
    """Return the text in an ANSI colour where a person reads `stream`; as it is elsewhere, and with `NO_COLOR`."""
    if os.environ.get("NO_COLOR") or not is_terminal(stream):
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def confirm(question: str, *, default: bool) -> bool:
    """Ask on the terminal; return whether the answer is yes. `default` is the answer of an empty line.

    Raises UsageError where nobody can answer, Interrupted at Ctrl-C.
    """
    if not may_ask():
        raise UsageError(f"{question} cannot be asked: there is no terminal", hint="add `--yes` to agree in advance")
    forget_typed_ahead()
    sys.stderr.write(f"{for_terminal(question)} [{'Y/n' if default else 'y/N'}] ")
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
    """Return whether a person is there to answer."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def agree(question: str, wait_s: float) -> bool:
    """Ask as `ask_for` does, where the command itself says what Ctrl-C has done."""
    return ask_for(question, wait_s, if_interrupted="")


def ask_for(
    question: str, wait_s: float, *, if_interrupted: str = "without an answer the run saves and stops by itself"
) -> bool:
    """Ask on the terminal and wait `wait_s` seconds; return whether the answer was yes.

    At Ctrl-C writes `if_interrupted` and raises KeyboardInterrupt.
    """
    try:
        forget_typed_ahead()
        sys.stderr.write(f"{for_terminal(question)} [y/N, {wait_s:.0f} s] ")
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
    """Shows the progress of one transfer: a bar on a terminal, below all other lines; elsewhere a line now and then.

    `files` is how many are sent in all, for a sender that does not tell how many have gone.
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
        """Show that `sent` of `total` bytes have gone; `files` is (files so far, files in all)."""
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
