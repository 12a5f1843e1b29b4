"""The two streams: the answer goes to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from cloudrun.errors import CloudrunError, UsageError
from cloudrun.units import duration, size


def answer(text: str) -> None:
    """What the command was asked for."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def answer_json(value: Any) -> None:
    answer(json.dumps(value, indent=2))


def note(text: str) -> None:
    """News for a person."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def warn(text: str) -> None:
    note(f"{paint('warning:', '33', sys.stderr)} {text}")


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
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise UsageError(f"{question} cannot be asked: there is no terminal", hint="add `--yes` to agree in advance")
    sys.stderr.write(f"{question} [{'Y/n' if default else 'y/N'}] ")
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        note("")
        return False
    typed = line.strip().lower()
    return typed in ("y", "yes") if typed else default


class TransferLine:
    """Progress of one transfer: a line that is redrawn on a terminal, one line at its end elsewhere."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began: float | None = None
        self._drawn_at = 0.0
        self._done = False

    def __call__(self, sent: int, total: int) -> None:
        now = time.monotonic()
        if self._began is None:
            self._began = now
        finished = sent >= total
        if self._done or (not finished and now - self._drawn_at < 0.5):
            return
        self._done, self._drawn_at = finished, now
        elapsed = max(now - self._began, 1e-6)
        rate = sent / elapsed
        if finished:
            text = f"{self._what}: {size(total)} in {duration(elapsed)} ({size(rate)}/s)"
        else:
            left = duration((total - sent) / rate) if rate else "-"
            text = f"{self._what}: {size(sent)} of {size(total)}, {size(rate)}/s, {left} left"
        if is_terminal(sys.stderr):
            sys.stderr.write(f"\r\x1b[2K{text}" + ("\n" if finished else ""))
            sys.stderr.flush()
        elif finished:
            note(text)
