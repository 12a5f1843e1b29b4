"""Wait for a bucket that does not answer, where a rented machine has nothing else to do than to get its data."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cloudrun.retry import tries
from cloudrun.stores.s3_errors import StoreUnavailable

Value = TypeVar("Value")

# Two minutes: a run that is given up has paid for its machine and its set-up, and pays for both again.
_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0, 30.0)


def through_outage(action: Callable[[], Value], say: Callable[[str], object]) -> Value:
    """Call `action` and return its result; while the bucket does not answer, say so and call it again.

    `action` goes on where it was. Raises StoreUnavailable after two minutes without an answer, other errors at once.
    """
    for pause_s in tries(_PAUSES_S):
        try:
            return action()
        except StoreUnavailable as err:
            if pause_s is None:
                raise
            say(f"{err.message}; trying again in {pause_s:.0f} s")
    raise AssertionError
