"""One command in a process group of its own: started, watched, stopped as a whole."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cloudrun.worker.process_group import signal_group, wait_until_gone

_PR_SET_PDEATHSIG = 1


class CannotStart(Exception):
    """The command's program is not there or not executable."""


class Child:
    """A running command whose output goes to `log_fd`."""

    def __init__(self, argv: list[str], *, cwd: Path, env: dict[str, str], log_fd: int) -> None:
        try:
            self._process = subprocess.Popen(
                argv,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                start_new_session=True,
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )
        except OSError as err:
            raise CannotStart(f"{argv[0]}: {err.strerror}") from err

    @property
    def pid(self) -> int:
        """Of the command, and of its process group."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.poll()

    def wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, *, grace_s: float, meanwhile: Callable[[], None]) -> int:
        """SIGTERM to the group, SIGKILL to what of it is left after `grace_s`; the exit code of the command."""
        signal_group(self.pid, signal.SIGTERM)
        return self.finish(grace_s=grace_s, meanwhile=meanwhile)

    def finish(self, *, grace_s: float, meanwhile: Callable[[], None]) -> int:
        """Give all that was asked to stop `grace_s` to do so, then SIGKILL; the exit code of the command.

        The command may be a shell, which a signal ends at once, while the program that it called still saves.
        """
        until = time.monotonic() + grace_s
        while self.wait(0.5) is None and time.monotonic() < until:
            meanwhile()
        wait_until_gone(self.pid, until - time.monotonic(), meanwhile)
        signal_group(self.pid, signal.SIGKILL)
        return self._process.wait()


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """If its parent is killed outright, a command gets a signal: nothing runs on unwatched."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
