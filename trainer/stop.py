"""SIGTERM and Ctrl-C end a run between two steps, with a complete checkpoint."""

from __future__ import annotations

import signal
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

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._receive)
        signal.signal(signal.SIGINT, self._receive)

    def is_set(self) -> bool:
        return self.signal_name is not None

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
