"""Limit the bytes that are on their way at once, which a cut would have to send again.

A fast link needs several packs in flight to stay full. On a slow link they would only make a cut dearer.
"""

from __future__ import annotations

import threading
import time

PACK_BYTES = 8_000_000
_LEAST_PACK_BYTES = 1_000_000
_MOST_BYTES = 46_000_000  # with the tar's own bytes still below 48 MB
_FIRST_BYTES = 4_000_000  # before the rate is known
# Seconds of the link's rate that are kept on their way.
_AHEAD_S = 1.5


class Flow:
    """Limits the bytes in flight by the rate at which bytes arrive."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._in_flight = 0
        self._started = 0
        self._began: float | None = None
        self._done = 0
        self._failed = False

    @property
    def pack_bytes(self) -> int:
        """Bytes that the next pack should have. The first packs are small, so that the rate is soon known."""
        rate = self._rate()
        wanted = _LEAST_PACK_BYTES * 2**self._started if rate is None else rate * _AHEAD_S / 2
        return int(min(max(wanted, _LEAST_PACK_BYTES), PACK_BYTES))

    def start(self, count: int, *, wait_s: float) -> bool:
        """Wait until `count` more bytes may be on their way, at most `wait_s` seconds; return False where they may not.

        Returns True at once where bytes have failed to arrive.
        """
        with self._changed:
            may = self._changed.wait_for(lambda: self._failed or self._has_room(count), wait_s)
            if may:
                if self._began is None:
                    self._began = time.monotonic()
                self._in_flight += count
                self._started += 1
            return may

    def end(self, count: int, *, arrived: bool) -> None:
        """Note that `count` bytes are no longer on their way: they have arrived, or have failed."""
        with self._changed:
            self._in_flight -= count
            if arrived:
                self._done += count
            else:
                self._failed = True
            self._changed.notify_all()

    def _has_room(self, count: int) -> bool:
        return not self._in_flight or self._in_flight + count <= self._limit()

    def _rate(self) -> float | None:
        """Return the bytes that arrive a second; None before any have arrived."""
        if not self._done or self._began is None:
            return None
        under_way = self._in_flight / 2  # a guess: how much of it has gone is not known
        return (self._done + under_way) / max(time.monotonic() - self._began, 1e-3)

    def _limit(self) -> float:
        rate = self._rate()
        return _FIRST_BYTES if rate is None else min(max(rate * _AHEAD_S, 2 * _LEAST_PACK_BYTES), _MOST_BYTES)
