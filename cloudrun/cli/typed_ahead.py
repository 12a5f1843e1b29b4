"""What was typed before a question was shown answers nothing."""

from __future__ import annotations

import sys
from contextlib import suppress


def forget_typed_ahead() -> None:
    """Throw away what stands in the terminal's buffer: an Enter, or a `y`, from before the question would rent."""
    import termios  # not on Windows, which nothing here runs on

    with suppress(termios.error, OSError, ValueError):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
