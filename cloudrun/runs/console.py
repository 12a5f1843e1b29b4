"""Where a launch speaks, and whom it asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cloudrun.backends import Say
from cloudrun.runs.follow import Ask
from cloudrun.stores import OnBytes


@dataclass(frozen=True, slots=True)
class Console:
    """One line of news, the job's log, and the progress of a transfer."""

    say: Say
    on_line: Callable[[str], None]
    on_bytes: OnBytes
    ask: Ask | None = None  # of the worker, to whoever follows; None: nobody is there to answer
    agree: Ask | None = None  # to another price than the one that was agreed to; None: nobody is there, which means no
