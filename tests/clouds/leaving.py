"""End a box so that nothing of it is left, however the process that started it has ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from tests.sky.slurm_cluster import MARK, processes_of


def leave_when_parent_does() -> None:
    """Wait until standard input closes; then end every process of the box, SkyPilot's API server too, and its folder.

    The machines go with this process: see `namespaces`.
    """
    os.read(0, 1)
    base = Path(os.environ[MARK])
    # Three times: a process may have been starting another one.
    for ending in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
        left = processes_of(base)
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, ending)
        time.sleep(1 if left else 0)
    shutil.rmtree(base, ignore_errors=True)
