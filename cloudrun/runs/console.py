"""Where a use case speaks, and whom it asks. The command line has a terminal; a program may listen, or be silent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cloudrun.backends import Say

Ask = Callable[[str, float], bool]
"""Takes a question and how many seconds to wait for its answer; True: yes."""


class OnTransfer(Protocol):
    """Hears how far a transfer is: `sent` of `total` bytes, and (some, of so many) files where that is known."""

    def __call__(self, sent: int, total: int, files: tuple[int, int] | None = None) -> None: ...


def _silent(_: str) -> None:
    """Nobody listens."""


def _unseen(sent: int, total: int, files: tuple[int, int] | None = None) -> None:
    """Nobody looks at the progress."""


@dataclass(frozen=True, slots=True)
class Console:
    """One line of news, the job's log, and the progress of a transfer."""

    say: Say = _silent
    on_line: Callable[[str], None] = _silent
    on_bytes: OnTransfer = _unseen
    ask: Ask | None = None  # of the worker, to whoever follows; None: nobody is there to answer
    agree: Ask | None = None  # to another price than the one that was agreed to; None: nobody is there, which means no
