"""Limit the time that a call is waited for, where the library that is called sets no limit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


class NoAnswerYet(Exception):
    """No answer came within the limit; the message names the limit."""


def within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """Call `ask`, and return its result or raise its error.

    Raises NoAnswerYet after `seconds`: the call then goes on in a thread of its own, which ends with the process.
    """
    answers: list[Answer] = []
    failures: list[BaseException] = []

    def carry_out() -> None:
        try:
            answers.append(ask())
        except BaseException as err:  # noqa: BLE001 - it is raised below, in the thread that waits
            failures.append(err)

    thread = threading.Thread(target=carry_out, daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not answers:
        raise NoAnswerYet(f"no answer within {seconds:.0f} s")
    return answers[0]
