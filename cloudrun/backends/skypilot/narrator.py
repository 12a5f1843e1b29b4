"""Pick from SkyPilot's output, while it rents, the few lines that a person waits for."""

from __future__ import annotations

import io
import re
from typing import TextIO

from cloudrun.backends import Say

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_NEWS = re.compile(r"Launching on |Failed to acquire|Failed to provision|Trying other|Retrying|Instance is up")
_ORNAMENTS = " \t⚙︎├└─│✓✗⨯"


class Narrator(io.TextIOBase):
    """A stream to hand to SkyPilot: all text goes to `log`, and lines with news go to `say`, too."""

    def __init__(self, say: Say, log: TextIO) -> None:
        super().__init__()
        self._say = say
        self._log = log
        self._rest = ""
        self._is_muted = False

    def close(self) -> None:
        """Drop all text that still comes: SkyPilot's request may outlive the wait for it."""
        self._is_muted = True

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        """Write `text` to the log, and tell each whole line that is news."""
        if self._is_muted:
            return len(text)
        self._log.write(text)
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            plain = _ANSI.sub("", line).strip(_ORNAMENTS)
            if _NEWS.search(plain):
                self._say(f"SkyPilot: {plain}")
        return len(text)

    def flush(self) -> None:
        self._log.flush()
