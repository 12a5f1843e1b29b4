"""Start, watch and stop a command and all that it has started, in a process group of its own."""

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
        """The process id of the command, which is also that of its process group."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal; None while the command runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> int | None:
        """Wait at most `seconds` for the command's end; return its exit code, None where it still runs."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, *, grace_s: float, meanwhile: Callable[[], None]) -> int:
        """Send SIGTERM to the group, and SIGKILL after `grace_s` seconds; return the exit code of the command.

        `meanwhile` is called at least twice a second while this waits.
        """
        signal_group(self.pid, signal.SIGTERM)
        return self.finish(grace_s=grace_s, meanwhile=meanwhile)

    def finish(self, *, grace_s: float, meanwhile: Callable[[], None]) -> int:
        """Wait `grace_s` seconds for a group that was asked to stop, then send SIGKILL; return the command's exit code.

        The command may be a shell, which a signal ends at once, while the program that it called still saves.
        """
        until = time.monotonic() + grace_s
        while self.wait(0.5) is None and time.monotonic() < until:
            meanwhile()
        wait_until_gone(self.pid, until - time.monotonic(), meanwhile)
        signal_group(self.pid, signal.SIGKILL)
        return self._process.wait()


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Have Linux send this process a signal when its parent is killed outright, so that nothing runs on unwatched.

    To be called in the new process, before its command (`preexec_fn`).
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
