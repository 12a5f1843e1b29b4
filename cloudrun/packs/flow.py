"""How much may be on its way at once: what a cut would have to send again.

A fast link needs several packs in flight to stay full. On a slow one they would only make a cut dearer.
"""

from __future__ import annotations

import threading
import time

PACK_BYTES = 8_000_000
_LEAST_PACK_BYTES = 1_000_000
_MOST_BYTES = 46_000_000  # with the tar's own bytes still below 48 MB
_FIRST_BYTES = 3 * PACK_BYTES
# Seconds of the link's rate that are kept on their way.
_AHEAD_S = 1.5


class Flow:
    """Bounds the bytes in flight by the rate that is seen."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._in_flight = 0
        self._began: float | None = None
        self._done = 0
        self._failed = False

    @property
    def pack_bytes(self) -> int:
        """How large the next pack should be."""
        rate = self._rate()
        return PACK_BYTES if rate is None else int(min(max(rate * _AHEAD_S / 2, _LEAST_PACK_BYTES), PACK_BYTES))

    def start(self, count: int) -> None:
        """Wait until `count` more bytes may be on their way."""
        with self._changed:
            while self._in_flight and self._in_flight + count > self._limit() and not self._failed:
                self._changed.wait(0.5)
            if self._began is None:
                self._began = time.monotonic()
            self._in_flight += count

    def end(self, count: int, *, arrived: bool) -> None:
        with self._changed:
            self._in_flight -= count
            if arrived:
                self._done += count
            else:
                self._failed = True
            self._changed.notify_all()

    def _rate(self) -> float | None:
        """Bytes a second; None before anything has arrived."""
        if not self._done or self._began is None:
            return None
        under_way = self._in_flight / 2  # nobody tells how much of it has gone
        return (self._done + under_way) / max(time.monotonic() - self._began, 1e-3)

    def _limit(self) -> float:
        rate = self._rate()
        return _FIRST_BYTES if rate is None else min(max(rate * _AHEAD_S, 2 * _LEAST_PACK_BYTES), _MOST_BYTES)
