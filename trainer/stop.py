"""SIGTERM and Ctrl-C end a run between two steps, with a complete checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from trainer.errors import StoppedEarly
from trainer.ranks import ALONE, Ranks


class StopFlag:
    """Set by the first SIGTERM or SIGINT after `listen`; further ones change nothing.

    With several processes, one that is asked to stop is enough.
    """

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.signal_name: str | None = None
        self._ranks = ranks
        self._raises = False

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._receive)
        signal.signal(signal.SIGINT, self._receive)

    def is_set(self) -> bool:
        return self.signal_name is not None

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """In here the signal itself raises StoppedEarly, for work of minutes of which nothing has to be kept.

        Of a process that is alone: several have to agree first.
        """
        self._raises = self._ranks.world == 1
        try:
            if self._raises and self.signal_name is not None:
                raise self._stopped(self.signal_name)
            yield
        finally:
            self._raises = False

    def raise_if_set(self) -> None:
        """All processes ask at the same place, and agree: a signal that came a moment too late waits for the next.

        Raises StoppedEarly.
        """
        number = 0 if self.signal_name is None else int(signal.Signals[self.signal_name])
        (agreed,) = self._ranks.decide(number)
        if agreed:
            raise self._stopped(signal.Signals(agreed).name)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.signal_name = self.signal_name or signal.Signals(number).name
        if self._raises:
            self._raises = False
            raise self._stopped(self.signal_name)

    def _stopped(self, signal_name: str) -> StoppedEarly:
        return StoppedEarly(f"stopped by {signal_name}", hint="the same command on the same folder goes on from here")
