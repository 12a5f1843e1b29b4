"""The console through which a use case reports and asks questions.

The command line gives it a terminal; a program may give it functions of its own, or leave it silent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cloudrun.backends import Say
from cloudrun.state.records import Progress

Ask = Callable[[str, float], bool]
"""Asks a question and waits at most so many seconds for the answer; True means yes."""


class OnTransfer(Protocol):
    """Takes the progress of a transfer: `sent` of `total` bytes, and (done, all) files where they are counted."""

    def __call__(self, sent: int, total: int, files: tuple[int, int] | None = None) -> None: ...


def _silent(_: str) -> None:
    """Drop a line: nobody listens."""


def _unseen(sent: int, total: int, files: tuple[int, int] | None = None) -> None:
    """Drop the progress of a transfer: nobody looks at it."""


def _unread(_: Progress) -> None:
    """Drop a heartbeat of the worker: nobody looks at it."""


@dataclass(frozen=True, slots=True)
class Console:
    """Functions that take a line of news, a line of the job's log, the progress of transfer and job, and two questions.

    `on_progress` gets the heartbeat of the worker at each look of a follower, whether or not it has changed.
    """

    say: Say = _silent
    on_line: Callable[[str], None] = _silent
    on_bytes: OnTransfer = _unseen
    on_progress: Callable[[Progress], None] = _unread
    ask: Ask | None = None  # for the worker's questions to the user; None: nobody is there to answer
    agree: Ask | None = None  # for the question whether a higher price is accepted; None: nobody is there, so No
