"""Start the uploader beside the job as soon as its Python is set up, and again whenever it dies."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from cloudrun.protocol.order import Order
from cloudrun.protocol.run_folder import RunFolder
from cloudrun.protocol.timing import LAST_UPLOAD_S, UPLOADER_GRACE_S
from cloudrun.protocol.words import JobExit
from cloudrun.retry import Backoff, doubled
from cloudrun.worker.child import CannotStart, Child
from cloudrun.worker.status_files import append_to_log

_NOT_YET_PAUSE_S = 2.0
_NO_PYTHON_PAUSE_S = 0.5
_PAUSES_S = doubled(1.0, 7, longest_s=60.0)


class Upload:
    """Keeps `python -m cloudrun.uploader RUN_DIR` alive, where the order names a store."""

    def __init__(self, run_dir: Path, order: Order, *, python: str) -> None:
        self._dir = run_dir
        self._files = RunFolder(run_dir)
        self._order = order
        self._python = python
        self._child: Child | None = None
        self._next_at = 0.0
        self._backoff = Backoff(_PAUSES_S)

    @property
    def is_stored(self) -> bool:
        """Whether the uploader has written that the results are verified in the bucket."""
        return self._files.stored.exists()

    def tend(self) -> None:
        """Start the uploader where it does not run. Call on every look."""
        if self._order.store_uri is None or self.is_stored:
            return
        if self._child is not None:
            code = self._child.exit_code()
            if code is None:
                return
            self._child = None
            self._next_at = time.monotonic() + self._pause_after(code)
        if time.monotonic() >= self._next_at:
            self._start()

    def end(self, *, enough: Callable[[], bool]) -> None:
        """Let the uploader send the last files, for `LAST_UPLOAD_S` seconds or until `enough` says so; then end it."""
        until = time.monotonic() + LAST_UPLOAD_S
        while self._child is not None and not self.is_stored and not enough() and time.monotonic() < until:
            self.tend()
            time.sleep(0.2)
        if self._child is not None:
            self._child.stop(grace_s=UPLOADER_GRACE_S, meanwhile=lambda: None)
            self._child = None

    def _start(self) -> None:
        paths = [str(self._files.code), os.environ.get("PYTHONPATH", "")]
        env = {**os.environ, **self._order.env, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        with self._files.log.open("ab") as log:
            try:
                self._child = Child(
                    [self._python, "-m", "cloudrun.uploader", str(self._dir)],
                    cwd=self._dir,
                    env=env,
                    log_fd=log.fileno(),
                )
            except CannotStart:  # the set-up has not made this Python yet
                self._next_at = time.monotonic() + _NO_PYTHON_PAUSE_S

    def _pause_after(self, code: int) -> float:
        """Return the seconds until the next start; log each exit code but that of a Python that is not set up yet."""
        if code == JobExit.NO_BOTO3:  # the set-up installs it
            return _NOT_YET_PAUSE_S
        append_to_log(self._dir, f"the uploader ended with {code}; starting it again")
        return self._backoff.failed()
