"""Send a data set to the machine in a thread, beside what else the command does."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from cloudrun.protocol.run_folder import DATA, DATA_BEAT
from cloudrun.protocol.timing import DATA_BEAT_EVERY_S
from cloudrun.stores import OnBytes, Store


class _Cancelled(Exception):
    """Raised inside a transfer to end it."""


class Sending(threading.Thread):
    """One push of the data set, with a heartbeat that the worker watches."""

    def __init__(self, store: Store, folder: Path, on_bytes: OnBytes) -> None:
        super().__init__(name="sending", daemon=True)
        self.error: Exception | None = None
        self.has_succeeded = False
        self.sent_bytes = 0
        self.took_s = 0.0
        self._store = store
        self._folder = folder
        self._on_bytes = on_bytes
        self._cancel = threading.Event()
        self._done = threading.Event()
        self._beat_at = 0.0

    def run(self) -> None:
        began = time.monotonic()
        try:
            self._store.push(self._folder, DATA, self._progress)
            self.took_s = time.monotonic() - began
            self.has_succeeded = True
        except _Cancelled:
            pass
        except Exception as err:  # noqa: BLE001 - `send_data`, which waits for the data, raises it
            self.error = err
        finally:
            self._done.set()

    def has_ended(self) -> bool:
        """Return whether the transfer is over, with success or not."""
        return self._done.is_set()

    def cancel(self) -> None:
        """End the transfer at its next report of progress, unless all bytes are sent."""
        self._cancel.set()

    def _progress(self, sent: int, total: int) -> None:
        if self._cancel.is_set() and sent < total:
            raise _Cancelled
        self.sent_bytes = sent
        self._on_bytes(sent, total)
        if time.monotonic() - self._beat_at > DATA_BEAT_EVERY_S:
            self._store.put(DATA_BEAT, b"")
            self._beat_at = time.monotonic()
