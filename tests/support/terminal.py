"""Commands typed at a real terminal, with somebody who answers."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.shell import Shell


class Terminal:
    """A command typed at a terminal."""

    def __init__(self, shell: Shell, *words: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, *words], cwd=shell.folder, env=shell.env, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(slave)
        self.said = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # a read may end within a letter

    def read_until(self, text: str, seconds: float = 40) -> None:
        until = time.monotonic() + seconds
        while text not in self.said:
            assert time.monotonic() < until, self.said
            if select.select([self._master], [], [], 0.2)[0]:
                self._read()

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> int:
        while True:
            try:
                self._read()
            except OSError:  # the last holder of the terminal has gone
                break
        return self.process.wait(60)

    def _read(self) -> None:
        self.said += self._decoder.decode(os.read(self._master, 4096))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)


def _take_terminal() -> None:
    """So that Ctrl-C, typed, is a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


OpenTerminal = Callable[..., Terminal]
"""Takes the words after `python`."""


@contextmanager
def terminals(shell: Shell) -> Iterator[OpenTerminal]:
    """Whatever is still open at the end is closed."""
    opened: list[Terminal] = []

    def open_terminal(*words: str) -> Terminal:
        opened.append(Terminal(shell, *words))
        return opened[-1]

    try:
        yield open_terminal
    finally:
        for one in opened:
            one.close()
