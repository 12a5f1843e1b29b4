"""Keep lines at the bottom of a terminal while others scroll above them, also where the terminal is resized."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_ERASE_BELOW = "\x1b[J"


class Footer:
    """The last lines of the terminal `stream`. The cursor stays visible: a killed command leaves nothing to repair."""

    def __init__(self, stream: TextIO, *, size: Callable[[], tuple[int, int]] | None = None) -> None:
        """`size` returns the terminal's columns and rows as they are now."""
        self._stream = stream
        self._size = size or (lambda: _size_of(stream))
        self._console = Console(file=stream, highlight=False)
        self._widths: list[int] = []  # of the lines that are shown, in cells

    @property
    def width(self) -> int:
        """The columns of the terminal as it is now."""
        return self._size()[0]

    def show(self, lines: list[Text], *, above: str = "") -> None:
        """Write `above`, which ends with a line end or is empty, and below it `lines` instead of those shown before."""
        width = self.width - 1  # a full line would leave the cursor in no certain place
        height = max(self._size()[1] - 1, 1)
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        shown = lines[:height]
        with self._console.capture() as drawn:
            self._console.print(Text("\n").join(shown), end="", soft_wrap=True)
        self._write(f"{self._erased()}{above}{drawn.get()}")
        self._widths = [cell_len(line.plain) for line in shown]

    def hide(self, *, above: str = "") -> None:
        """Write `above` in the place of the lines that are shown."""
        self._write(f"{self._erased()}{above}")
        self._widths = []

    def _erased(self) -> str:
        """Return what takes the lines away; a terminal that became narrower has wrapped them."""
        if not self._widths:
            return ""
        columns = max(self.width, 1)
        rows = sum(max(-(-width // columns), 1) for width in self._widths)
        up = f"\x1b[{rows - 1}A" if rows > 1 else ""
        return f"\r{up}{_ERASE_BELOW}"

    def _write(self, text: str) -> None:
        if text:
            self._stream.write(text)
            self._stream.flush()


def _size_of(stream: TextIO) -> tuple[int, int]:
    """Return columns and rows; 80 and 24 for a terminal that does not tell."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except OSError:
        return 80, 24
    return columns or 80, rows or 24
