"""Find SkyPilot's own Python on the machine, and keep its idle timer there armed: a safety net for the watchdog.

Skylet ends a machine that has had no SkyPilot job for some minutes. It forgets the timer where the machine's clock is
set, and SkyPilot disarms the timer where it finds Ray dead: so the timer is armed again and again. A SkyPilot job that
was killed is not the end of the run: each time that the timer is armed, skylet counts from zero again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cloudrun.protocol.order import Order
from cloudrun.worker.child import end_with_parent
from cloudrun.worker.sky_internals import ARM

_ARM_EVERY_S = 3600.0
_REMIND_EVERY_S = 60.0
_PATIENCE_S = 60.0

# The environment as it was when the worker began: the job's own keys, which are added later, must not be used to ask
# the machine's provider.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def sky_environment() -> dict[str, str]:
    """Return the environment for SkyPilot's own Python."""
    return dict(_ENVIRONMENT)


def sky_python() -> str:
    """Return the path of SkyPilot's own Python on the machine."""
    return f"{os.environ.get('SKY_RUNTIME_DIR') or Path.home()}/skypilot-runtime/bin/python"


class IdleTimer:
    """Keeps SkyPilot's idle timer armed, and keeps it from running out while the watchdog has no SkyPilot job."""

    def __init__(self, order: Order, *, has_job: Callable[[], bool]) -> None:
        """`has_job` says whether SkyPilot still sees the machine as busy."""
        self._order = order
        self._has_job = has_job
        self._child: subprocess.Popen[bytes] | None = None
        self._child_since = 0.0
        self._armed_at: float | None = None

    def tend(self) -> None:
        """Arm the timer where it is time to. Call on every look.

        A failure is not an error and is tried again later: the timer is only a safety net.
        """
        if not self._order.has_timer or self._is_busy():
            return
        now = time.monotonic()
        if self._armed_at is None or now - self._armed_at >= (_ARM_EVERY_S if self._has_job() else _REMIND_EVERY_S):
            self._armed_at = now
            self._start(ARM, f"{max(self._order.idle_s / 60, 1):.0f}")

    def leave(self) -> None:
        """Stop arming the timer, which goes on by itself: a late arming must not undo what skylet is asked next."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def _start(self, script: str, *words: str) -> None:
        with suppress(OSError):  # no such Python: no skylet either
            self._child = subprocess.Popen(
                ["nice", sky_python(), "-c", script, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=sky_environment(),
                cwd=Path.home(),
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )
            self._child_since = time.monotonic()

    def _is_busy(self) -> bool:
        if self._child is None:
            return False
        if self._child.poll() is None and time.monotonic() - self._child_since < _PATIENCE_S:
            return True
        self.leave()
        return False
