"""End a run on SIGTERM or Ctrl-C between two steps, with a complete checkpoint."""

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
    """Called with `is_heard=False` before work that ignores signals, and with True after it."""

    def __call__(self, *, is_heard: bool) -> None: ...


class StopFlag:
    """A flag that the first SIGTERM or SIGINT after `listen` sets; further signals change nothing.

    With several processes it is enough that one of them is asked to stop. `on_listening(is_heard=False)` announces that
    signals have no effect until the current work ends.
    """

    def __init__(self, ranks: Ranks = ALONE, *, on_listening: OnListening = lambda **_: None) -> None:
        self.signal_name: str | None = None
        self._ranks = ranks
        self._on_listening = on_listening
        self._heard: queue.SimpleQueue[str | None] = queue.SimpleQueue()  # a signal may interrupt a `put`

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._receive)
        signal.signal(signal.SIGINT, self._receive)
        self._on_listening(is_heard=True)

    def is_set(self) -> bool:
        return self.signal_name is not None

    @contextmanager
    def at_once(self, end: Callable[[str], None]) -> Iterator[None]:
        """Call `end` with the name of a signal as soon as it comes, for minutes of work whose result need not be kept.

        `end` ends the process, from a thread. The work cannot be interrupted, since it is torch's: an exception in the
        middle of its C++ code aborts the process, and its compiler logs or swallows it. Raises StoppedEarly where the
        flag is already set.

        Only in a process that trains alone: several processes have to agree first, so that the work then goes on to its
        end.
        """
        if self._ranks.world > 1:
            self._on_listening(is_heard=False)
            try:
                yield
            finally:
                self._on_listening(
                    is_heard=not self.is_set()
                )  # if it is set, all processes end now, or are killed at work
            return
        self._heard = queue.SimpleQueue()
        self.raise_if_set()
        thread = threading.Thread(target=self._end_by, args=(end,), name="stop", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._heard.put(None)
            thread.join()  # nothing else begins while `end` works

    def raise_if_set(self) -> None:
        """Raise StoppedEarly where any process was asked to stop.

        All processes call this at the same place, and agree: a signal that comes a moment too late counts at the next
        call.
        """
        number = 0 if self.signal_name is None else int(signal.Signals[self.signal_name])
        (agreed,) = self._ranks.decide(number)
        if agreed:
            raise StoppedEarly(
                f"stopped by {signal.Signals(agreed).name}",
                hint="the same command on the same folder continues from here",
            )

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.signal_name = self.signal_name or signal.Signals(number).name
        self._heard.put(self.signal_name)

    def _end_by(self, end: Callable[[str], None]) -> None:
        signal_name = self._heard.get()
        if signal_name is not None:
            end(signal_name)
