"""Signals that ask a command to end: Ctrl-C, `kill`, and a terminal that is closed. The standard library alone.

While a command is being loaded, and after it has answered, nothing can be lost: a signal ends the process at once, with
one line. In between each is met as Ctrl-C is, so that what works can end the bill and say whether the job goes on. A
signal that is ignored, as `nohup` and `&` of a script do it, stays so.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = "interrupted; `cloudrun ps` shows what bills"

_ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Interrupt:
    """Raises KeyboardInterrupt: at each Ctrl-C, but once for the others.

    A shell passes the hang-up of its terminal on, and the system sends it again: that must not break off a clean-up.
    """

    def __init__(self) -> None:
        self._is_met = False

    def was_met(self) -> bool:
        """Return whether a signal has come."""
        return self._is_met

    def __call__(self, number: int, _frame: object) -> None:
        is_first, self._is_met = not self._is_met, True
        if is_first or number == signal.SIGINT:
            raise KeyboardInterrupt


def _end_at_once(_number: int, _frame: object) -> None:
    try:
        os.write(2, f"\n{INTERRUPTED}\n".encode())
    finally:
        os._exit(130)


def end_at_once() -> None:
    """From now on a signal ends the process with exit code 130 and one line."""
    for number in _ALL:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end_at_once)
    sys.unraisablehook = _raise_again
    atexit.register(_hear_no_more)  # first, so that it is called last


def _hear_no_more() -> None:
    """All has been said: Python is about to take its handlers away, and a signal would end the process by itself."""
    for number in _ALL:
        signal.signal(number, signal.SIG_IGN)


def _raise_again(found: sys.UnraisableHookArgs) -> None:
    """An interrupt that Python can't raise where it came, in the removal of an object, comes again a moment later."""
    if isinstance(found.exc_value, KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    else:
        sys.__unraisablehook__(found)


@contextmanager
def as_interrupts(numbers: tuple[signal.Signals, ...] = _ALL) -> Iterator[_Interrupt]:
    """Raise KeyboardInterrupt where one of these signals comes; yields what knows whether one has come.

    Inside of another such block, in a thread, and for a signal that is ignored, nothing changes.
    """
    interrupt = _Interrupt()
    if threading.current_thread() is not threading.main_thread():  # a program's own thread hears no signals
        yield interrupt
        return
    before = {number: signal.getsignal(number) for number in numbers}
    taken = [number for number, had in before.items() if had is not signal.SIG_IGN and not isinstance(had, _Interrupt)]
    try:
        for number in taken:
            signal.signal(number, interrupt)
        yield interrupt
    finally:
        for number in taken:
            signal.signal(number, before[number])
