"""Start the process of an attempt, or find it at work after a watchdog was killed; end it together with its job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from cloudrun.files import locks
from cloudrun.protocol.run_folder import RunFolder
from cloudrun.protocol.timing import LAST_WORDS_S
from cloudrun.protocol.words import WorkerCommand
from cloudrun.worker.child import end_with_parent
from cloudrun.worker.process_group import signal_group, wait_until_gone

# Tells the attempt that its watchdog was killed.
WATCHDOG_IS_GONE = signal.SIGUSR1
_KILLED_WITHIN_S = 5.0


class AttemptProcess:
    """`python -m cloudrun.worker RUN_DIR attempt`, and the job that it starts."""

    def __init__(self, run_dir: Path, process: subprocess.Popen[bytes] | None) -> None:
        """`process` is an attempt that this watchdog has started; None: the attempt that holds the lock, if any."""
        self._dir = run_dir
        self._process = process

    @classmethod
    def start(cls, run_dir: Path, *, billed_s: float) -> AttemptProcess:
        """Start an attempt; `billed_s` seconds are on the bill now."""
        held = locks.take(RunFolder(run_dir).attempt_lock)  # so that a second watchdog sees this attempt
        assert held is not None, "there is an attempt already"
        os.set_inheritable(held, True)  # noqa: FBT003 - it takes no keyword
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "cloudrun.worker", str(run_dir), WorkerCommand.ATTEMPT.value],
                env={**os.environ, "CLOUDRUN_BILLED_S": f"{billed_s:.1f}"},
                close_fds=False,  # it keeps open its own lock, and the lock by which a local run is known to live
                preexec_fn=_hear_of_parents_end if sys.platform == "linux" else None,
            )
        finally:
            os.close(held)
        RunFolder(run_dir).attempt_pid.write_text(str(process.pid))
        return cls(run_dir, process)

    @classmethod
    def left_by_an_earlier_watchdog(cls, run_dir: Path) -> AttemptProcess:
        """Return the attempt of a watchdog that was killed, whether the attempt still lives or not."""
        return cls(run_dir, None)

    @staticmethod
    def is_at_work(run_dir: Path) -> bool:
        """Return whether an attempt lives in the folder, whoever has started it."""
        return locks.is_held(RunFolder(run_dir).attempt_lock)

    @property
    def lives(self) -> bool:
        """Whether the attempt's process has not ended."""
        return self.is_at_work(self._dir) if self._process is None else self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while the attempt runs, and where another watchdog started it."""
        return None if self._process is None else self._process.returncode

    @property
    def crash_message(self) -> str:
        """What is known of the attempt's death, as a message for its result."""
        return "its worker was killed" + ("" if self.exit_code is None else f" (exit code {self.exit_code})")

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the attempt, which stops its job and writes a result."""
        self._signal(signal.SIGTERM)

    def kill(self, *, patience_s: float) -> None:
        """Kill the attempt, then the job's process group, which has `patience_s` seconds to save.

        The job leads a group of its own: no signal to the attempt reaches it.
        """
        self._signal(signal.SIGKILL)
        self._wait(_KILLED_WITHIN_S)
        try:
            group = int(RunFolder(self._dir).job_pid.read_text())
        except (FileNotFoundError, ValueError):
            return
        for number, seconds in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
            signal_group(group, number)
            wait_until_gone(group, seconds)
        RunFolder(self._dir).job_pid.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the attempt `LAST_WORDS_S` seconds to end by itself, then kill it."""
        if not self._wait(LAST_WORDS_S):
            self.kill(patience_s=0)

    def _signal(self, number: signal.Signals) -> None:
        if not self.lives:
            return
        if self._process is not None:
            self._process.send_signal(number)
            return
        with suppress(OSError, ValueError):
            os.kill(int(RunFolder(self._dir).attempt_pid.read_text()), number)

    def _wait(self, seconds: float) -> bool:
        """Wait until the attempt has ended, at most `seconds`; return whether it has."""
        until = time.monotonic() + seconds
        while self.lives:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True


def _hear_of_parents_end() -> None:
    end_with_parent(WATCHDOG_IS_GONE)
