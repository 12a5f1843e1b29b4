"""Something long beside what goes on; whoever waits for it can tell that it is alive, and can give up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

_LOOK_EVERY_S = 1.0


def started(work: Callable[[], T]) -> Future[T]:
    """In a thread that holds up no exit: a pool's threads would be waited for."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as err:  # noqa: BLE001 - it is raised by whoever waits
            future.set_exception(err)

    threading.Thread(target=run, daemon=True).start()
    return future


def waited(future: Future[T], meanwhile: Callable[[], None]) -> T:
    """Its result; `meanwhile` is called every second, and what it raises ends the waiting."""
    while True:
        try:
            return future.result(_LOOK_EVERY_S)
        except TimeoutError:
            if future.done():
                raise  # its own
            meanwhile()
