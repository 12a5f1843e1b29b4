"""SIGTERM and Ctrl-C end a run between two steps, with a complete checkpoint."""

from __future__ import annotations

import signal
from types import FrameType

from trainer.errors import StoppedEarly


class StopFlag:
    """Set by the first SIGTERM or SIGINT after `listen`; further ones change nothing."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self._note)
        signal.signal(signal.SIGINT, self._note)

    def is_set(self) -> bool:
        return self.signal_name is not None

    def raise_if_set(self) -> None:
        if self.signal_name is not None:
            raise StoppedEarly(
                f"stopped by {self.signal_name}", hint="the same command on the same folder goes on from here"
            )

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal_name = self.signal_name or signal.Signals(number).name
