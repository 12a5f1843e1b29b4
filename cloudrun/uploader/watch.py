"""Decide when to send: every few seconds while the job runs, all once it has ended, and again after a failure."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from cloudrun.errors import StoreError
from cloudrun.protocol.run_folder import RunFolder
from cloudrun.protocol.timing import QUIET_WAIT_S
from cloudrun.retry import Backoff, doubled
from cloudrun.stores.s3 import S3Store
from cloudrun.uploader.changed_files import ChangedFiles
from cloudrun.worker.status_files import last_word

_LOOK_S = 0.3
_PAUSES_S = doubled(1.0, 7, longest_s=60.0)


class Watch:
    """Watches one run's folder and keeps the bucket's copy of it up to date."""

    def __init__(self, run_dir: Path, store: S3Store, uri: str, *, every_s: float) -> None:
        self._dir = run_dir
        self._uri = uri
        self._changed = ChangedFiles(run_dir, store, _say)
        self._every_s = every_s
        self._failure = ""
        self._backoff = Backoff(_PAUSES_S)
        self._announced = False

    def until_stored(self, *, go_on: Callable[[], bool]) -> bool:
        """Send files until the job has ended and all are in the bucket: True. False where `go_on` says no before."""
        _say(f"the results go to {self._uri}")
        patient_until: float | None = None
        was_changing = False
        while go_on():
            ended = last_word(self._dir) is not None  # asked first: files that are listed after the end are final
            if ended and patient_until is None:
                patient_until = time.monotonic() + QUIET_WAIT_S
            try:
                changing = self._changed.send_changed()
                if changing and patient_until is not None and time.monotonic() > patient_until:
                    _say(f"{', '.join(changing)}: still being written to after the end, so left out")
                    changing = []
                if ended and not changing:
                    self._announce()
                    self._changed.send_result()
                    RunFolder(self._dir).stored.touch()
                    return True
                self._succeeded()
                just_written = bool(changing) and not was_changing  # most likely whole by the next look
                pause_s = _LOOK_S if ended or just_written else self._every_s
                was_changing = bool(changing)
            except StoreError as err:
                pause_s = self._failed(err)
            self._sleep(pause_s, go_on, until_result=not ended)
        return False

    def _announce(self) -> None:
        """Log that all results are stored, just before the last upload, so that the uploaded log has the line, too."""
        if not self._announced:
            self._announced = True
            _say(f"all results are in {self._uri}")

    def _failed(self, err: StoreError) -> float:
        """Log a failure, each reason once; return the seconds until the next try."""
        if err.message != self._failure:
            self._failure = err.message
            _say(f"{err.message}; trying again until it works")
        return self._backoff.failed()

    def _succeeded(self) -> None:
        if self._failure:
            _say("it works again")
        self._failure = ""
        self._backoff.succeeded()

    def _sleep(self, seconds: float, go_on: Callable[[], bool], *, until_result: bool) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and go_on():
            if until_result and last_word(self._dir) is not None:
                return
            time.sleep(min(_LOOK_S, max(until - time.monotonic(), 0.0)))


def _say(text: str) -> None:
    """Write a line to the run's log, to which the worker has directed this process's output."""
    sys.stdout.write(f"cloudrun: store: {text}\n")
    sys.stdout.flush()
