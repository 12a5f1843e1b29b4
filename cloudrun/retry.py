"""Try an action again that may work the next time, with pauses that grow. Standard library, Python 3.10."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

Errors = tuple[type[Exception], ...]
Value = TypeVar("Value")


def doubled(first_s: float, count: int, *, longest_s: float = float("inf")) -> tuple[float, ...]:
    """Return `count` pauses in seconds, each twice the one before it, at most `longest_s`. Pure."""
    return tuple(min(first_s * 2**number, longest_s) for number in range(count))


def tries(pauses_s: Iterable[float]) -> Iterator[float | None]:
    """Yield before each try the seconds of the pause after it, and sleep them; None before the last try.

    The caller returns or raises once no other try is needed:

        for pause_s in tries((1.0, 3.0)):
            try:
                return ask()
            except OSError:
                if pause_s is None:
                    raise
    """
    for pause_s in pauses_s:
        yield pause_s
        time.sleep(pause_s)
    yield None


def attempted(action: Callable[[], Value], *, failing_by: Errors, pauses_s: Iterable[float]) -> Value:
    """Call `action` and return its result; where it raises an error of `failing_by`, call it again after each pause.

    Raises the error of the last try.
    """
    for pause_s in tries(pauses_s):
        try:
            return action()
        except failing_by:  # noqa: PERF203 - a try costs nothing beside its pause
            if pause_s is None:
                raise
    raise AssertionError


class Backoff:
    """Pauses that grow with each failure in a row, and stay at the longest one."""

    def __init__(self, pauses_s: Sequence[float]) -> None:
        self._pauses_s = pauses_s
        self._failures = 0

    @property
    def failures(self) -> int:
        """The number of failures in a row."""
        return self._failures

    def failed(self) -> float:
        """Count a failure, and return the seconds until the next try."""
        pause_s = self._pauses_s[min(self._failures, len(self._pauses_s) - 1)]
        self._failures += 1
        return pause_s

    def succeeded(self) -> None:
        """Count a success: the next failure begins with the shortest pause again."""
        self._failures = 0
