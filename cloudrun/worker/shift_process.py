"""The shift as a process: started, signalled, and ended together with its job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from cloudrun.worker.child import end_with_parent
from cloudrun.worker.process_group import signal_group, wait_until_gone

_GRACE_S = 60.0


class ShiftProcess:
    """`python -m cloudrun.worker RUN_DIR shift`, and the job that it starts."""

    def __init__(self, run_dir: Path, *, billed_s: float) -> None:
        """Start it; `billed_s` seconds are on the bill now."""
        self._dir = run_dir
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cloudrun.worker", str(run_dir), "shift"],
            env={**os.environ, "CLOUDRUN_BILLED_S": f"{billed_s:.1f}"},
            close_fds=False,  # the lock by which a local run is known to live is held by both
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
        )
        (run_dir / "shift.pid").write_text(str(self._process.pid))

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.returncode

    def ask_to_stop(self) -> None:
        if self.lives:
            self._process.send_signal(signal.SIGTERM)

    def kill(self, *, patience_s: float) -> None:
        """The shift and, since it leads a group of its own, the job, which may have `patience_s` to save."""
        self._process.kill()
        self._process.wait()
        try:
            group = int((self._dir / "job.pid").read_text())
        except (FileNotFoundError, ValueError):
            return
        for number, seconds in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 5.0)):
            signal_group(group, number)
            wait_until_gone(group, seconds)
        (self._dir / "job.pid").unlink(missing_ok=True)

    def finish(self) -> None:
        """Give it a minute for its last words, then kill it."""
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill(patience_s=0)
