"""A limit on how long an answer is waited for, where whoever is asked sets none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


class NoAnswerYet(Exception):
    """Nothing came within the limit; the message says for how long."""


def within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """Return what `ask` returns, or raise what it raises.

    Raises NoAnswerYet after `seconds`: the question then goes on in a thread of its own, which ends with the process.
    """
    answers: list[Answer] = []
    failures: list[BaseException] = []

    def carry_out() -> None:
        try:
            answers.append(ask())
        except BaseException as err:  # noqa: BLE001 - it is raised where the answer is waited for
            failures.append(err)

    thread = threading.Thread(target=carry_out, daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not answers:
        raise NoAnswerYet(f"no answer within {seconds:.0f} s")
    return answers[0]
