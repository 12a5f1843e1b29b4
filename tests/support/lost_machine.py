"""Take the machine of a local run away, as a provider does without notice: its processes and its disk are gone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.support.shell import Shell


def lose_the_machine(shell: Shell, run_id: str) -> None:
    """Power cut: its processes and its disk are gone, those first that would tell of the end of another."""
    run_dir = shell.home / "local" / run_id
    job = int((run_dir / "job.pid").read_text())
    end_processes(run_dir)
    with suppress(ProcessLookupError):  # it is asked to stop when the worker dies
        os.killpg(job, signal.SIGKILL)
    shutil.rmtree(run_dir)


def end_processes(run_dir: Path) -> None:
    """Those that have the run's folder in their command line."""
    subprocess.run(["pkill", "-KILL", "-f", str(run_dir)], check=False)
    until = time.monotonic() + 60
    while subprocess.run(["pgrep", "-f", str(run_dir)], capture_output=True, check=False).stdout:
        assert time.monotonic() < until
        time.sleep(0.05)
