"""The console through which a use case reports and asks questions.

The command line gives it a terminal; a program may give it functions of its own, or leave it silent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cloudrun.backends import Say

Ask = Callable[[str, float], bool]
"""Asks a question and waits at most so many seconds for the answer; True means yes."""


class OnTransfer(Protocol):
    """Takes the progress of a transfer: `sent` of `total` bytes, and (done, all) files where they are counted."""

    def __call__(self, sent: int, total: int, files: tuple[int, int] | None = None) -> None: ...


def _silent(_: str) -> None:
    """Drop a line: nobody listens."""


def _unseen(sent: int, total: int, files: tuple[int, int] | None = None) -> None:
    """Drop the progress of a transfer: nobody looks at it."""


@dataclass(frozen=True, slots=True)
class Console:
    """Functions that take a line of news, a line of the job's log, the progress of a transfer, and two questions."""

    say: Say = _silent
    on_line: Callable[[str], None] = _silent
    on_bytes: OnTransfer = _unseen
    ask: Ask | None = None  # for the worker's questions to the user; None: nobody is there to answer
    agree: Ask | None = None  # for the question whether a higher price is accepted; None: nobody is there, so No
