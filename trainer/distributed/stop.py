"""SIGTERM and Ctrl-C end a run between two steps, with a complete checkpoint."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from trainer.distributed.ranks import ALONE, Ranks
from trainer.errors import StoppedEarly


class OnListening(Protocol):
    def __call__(self, *, is_heard: bool) -> None: ...


class StopFlag:
    """Set by the first SIGTERM or SIGINT after `listen`; further ones change nothing.

    With several processes, one that is asked to stop is enough. `tell` is told whether a signal is heard soon from now
    on: of several, work as in `at_once` goes on to its end first.
    """

    def __init__(self, ranks: Ranks = ALONE, *, on_listening: OnListening = lambda **_: None) -> None:
        self.signal_name: str | None = None
        self._ranks = ranks
        self._on_listening = on_listening
        self._heard: queue.SimpleQueue[str | None] = queue.SimpleQueue()  # a signal may come in the middle of its `put`

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._receive)
        signal.signal(signal.SIGINT, self._receive)
        self._on_listening(is_heard=True)

    def is_set(self) -> bool:
        return self.signal_name is not None

    @contextmanager
    def at_once(self, end: Callable[[str], None]) -> Iterator[None]:
        """In here a signal calls `end` with its name, for minutes of work of which nothing has to be kept.

        `end` ends the process, from a thread of its own. The work is not interrupted, since it is torch's: an exception
        of a signal that comes in the middle of its C++ code aborts the process, and its compiler logs or swallows it.

        Of a process that is alone: several have to agree first. Raises StoppedEarly where it is set already.
        """
        if self._ranks.world > 1:
            self._on_listening(is_heard=False)
            try:
                yield
            finally:
                self._on_listening(
                    is_heard=not self.is_set()
                )  # if it is, they end now, or are killed in the middle of it
            return
        self._heard = queue.SimpleQueue()
        self.raise_if_set()
        thread = threading.Thread(target=self._end_by, args=(end,), name="stop", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._heard.put(None)
            thread.join()  # while `end` is at work nothing else begins

    def raise_if_set(self) -> None:
        """All processes ask at the same place, and agree: a signal that came a moment too late waits for the next.

        Raises StoppedEarly.
        """
        number = 0 if self.signal_name is None else int(signal.Signals[self.signal_name])
        (agreed,) = self._ranks.decide(number)
        if agreed:
            raise StoppedEarly(
                f"stopped by {signal.Signals(agreed).name}",
                hint="the same command on the same folder goes on from here",
            )

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.signal_name = self.signal_name or signal.Signals(number).name
        self._heard.put(self.signal_name)

    def _end_by(self, end: Callable[[str], None]) -> None:
        signal_name = self._heard.get()
        if signal_name is not None:
            end(signal_name)
