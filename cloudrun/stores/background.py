"""Run long work in a thread; while the caller waits, it can report that the work goes on, and can give up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

_LOOK_EVERY_S = 1.0


def started(work: Callable[[], T]) -> Future[T]:
    """Start `work` in a thread that does not hold up the exit, as a pool's would; return the future of its result."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as err:  # noqa: BLE001 - `waited` raises it
            future.set_exception(err)

    threading.Thread(target=run, daemon=True).start()
    return future


def waited(future: Future[T], meanwhile: Callable[[], None]) -> T:
    """Return the future's result; `meanwhile` is called every second, and an exception that it raises ends the wait."""
    while True:
        try:
            return future.result(_LOOK_EVERY_S)
        except TimeoutError:
            if future.done():
                raise  # the work's own TimeoutError
            meanwhile()
