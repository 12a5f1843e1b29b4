"""A terminal in memory: what a person would see of the text that a command wrote."""

from __future__ import annotations

import pyte


def screen_of(written: str, *, columns: int = 80, rows: int = 24) -> list[str]:
    """Return the lines of a terminal after `written`, without spaces at their ends and without empty lines below."""
    screen = pyte.Screen(columns, rows)
    screen.set_mode(pyte.modes.LNM)  # as the terminal driver of a kernel, which adds carriage returns
    pyte.Stream(screen).feed(written)
    lines = [line.rstrip() for line in screen.display]
    while lines and not lines[-1]:
        lines.pop()
    return lines
