"""Write in one line how fast a transfer goes, and when it will be over."""

from __future__ import annotations

import time
from collections.abc import Callable

from cloudrun.text.units import duration, size

# Seconds between two lines of a long transfer, where no bar can be drawn.
_LINE_EVERY_S = 30.0


class Pace:
    """One transfer. Its time counts from the first look; bytes that were there by then do not count for the rate."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: float | None = None
        self._at_first = 0
        self._told_at = 0.0

    @property
    def has_begun(self) -> bool:
        """Whether there was a first look."""
        return self._began is not None

    def text(self, done: int, total: int, *, files: tuple[int, int] | None = None) -> str:
        """Return `88.0 MB of 176.0 MB, 2 of 5 files, 20.1 MB/s, 4.4 s left`.

        Once all bytes have come, `5 files, 176.0 MB in 8.8 s (20.0 MB/s)`. `files` is (files so far, files in all).
        """
        elapsed = max(self.elapsed_s(done), 1e-6)
        come = done - self._at_first
        if done >= total:
            count = f"{files[1]} file{'s' if files[1] != 1 else ''}, " if files else ""
            return f"{count}{size(total)} in {duration(elapsed)} ({size(come / elapsed)}/s)"
        parts = [f"{size(done)} of {size(total)}"]
        if files:
            parts.append(f"{files[0]} of {files[1]} files")
        parts.append(f"{size(come / elapsed)}/s")
        if come:
            parts.append(f"{duration((total - done) * elapsed / come)} left")
        return ", ".join(parts)

    def elapsed_s(self, done: int) -> float:
        """Return the seconds since the first look; a first look notes that `done` bytes were there already."""
        now = self._clock()
        if self._began is None:
            self._began = self._told_at = now
            self._at_first = done
        return now - self._began

    def is_due(self, done: int) -> bool:
        """Return whether the last line is half a minute old. Where it is, a line counts as written now."""
        self.elapsed_s(done)
        now = self._clock()
        if now - self._told_at < _LINE_EVERY_S:
            return False
        self._told_at = now
        return True
