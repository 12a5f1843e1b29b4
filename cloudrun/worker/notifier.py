"""Tell the user's channels how the run goes, beside the watchdog, which waits for nothing of it.

A thread looks at the run's folder, and a thread a channel sends. They are daemons: a service that never answers keeps
neither the watchdog nor the end of the machine waiting. A channel that takes nothing is named in the log once.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Full, Queue
from typing import Any

from cloudrun.files.untrusted import Unreadable, parse_object, read_object, read_regular
from cloudrun.notices.channel import Channel
from cloudrun.notices.payload import Notice
from cloudrun.notices.send import NotDelivered, deliver
from cloudrun.protocol.messages import replace_text
from cloudrun.protocol.order import Order
from cloudrun.protocol.outputs import METRICS, SUMMARY
from cloudrun.protocol.run_folder import RunFolder
from cloudrun.worker.due import Seen, due
from cloudrun.worker.status_files import append_to_log, last_word

LAST_NOTICES_S = 5.0
"""The watchdog lets the last notices go for this long at the most, and no longer than they need."""

_LOOKS_EVERY_S = 1.0
_MOST_WAITING = 32  # notices of a channel
_READ_AT_ONCE_BYTES = 1_000_000


class Notifier:
    """Sends the notices of one attempt to `channels`; does nothing where there are none."""

    def __init__(self, run_dir: Path, order: Order, channels: list[Channel], *, billed_s: Callable[[], float]) -> None:
        self._dir = run_dir
        self._files = RunFolder(run_dir)
        self._order = order
        self._billed_s = billed_s
        self._senders = [_Sender(run_dir, channel) for channel in channels]
        self._said: set[str] = set()
        self._metrics_read_to = 0
        self._validation: dict[str, Any] | None = None
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work, name="notifier", daemon=True)

    def start(self) -> None:
        """Begin to look. A watchdog that is started again goes on with what the one before it has not said."""
        if not self._senders:
            return
        kept = read_object(self._files.notices) or {}
        said = kept.get("said")
        self._said = {str(one) for one in said} if isinstance(said, list) else set()
        if not self._said:  # the rows of an earlier attempt are no first validation of this one
            with suppress(OSError):
                self._metrics_read_to = (self._files.out / METRICS).stat().st_size
        for sender in self._senders:
            sender.start()
        self._thread.start()

    def end(self, *, patience_s: float = LAST_NOTICES_S) -> None:
        """Look a last time and let the senders finish, for `patience_s` seconds at the most."""
        if not self._senders:
            return
        until = time.monotonic() + patience_s
        self._ends.set()
        for thread in (self._thread, *(sender.thread for sender in self._senders)):
            thread.join(max(until - time.monotonic(), 0.0))

    def _work(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._ends.wait(_LOOKS_EVERY_S)
            with suppress(OSError):  # a full disk, or a folder that is gone
                self._look()
        for sender in self._senders:
            sender.dismiss()

    def _look(self) -> None:
        ready = due(self._order, self._see(), self._said)
        if not ready:
            return
        self._said |= {key for key, _ in ready}
        for _, notice in ready:
            for sender in self._senders:
                sender.take(notice)
        replace_text(self._files.notices, json.dumps({"said": sorted(self._said)}))

    def _see(self) -> Seen:
        files = self._files
        result = last_word(self._dir)
        if self._validation is None:
            self._validation = self._read_validation()
        return Seen(
            billed_s=self._billed_s(),
            validation=self._validation,
            result=result,
            result_age_s=0.0 if result is None else max(time.time() - files.result.stat().st_mtime, 0.0),
            is_safe=files.home.exists() or files.stored.exists(),
            score=None if result is None else read_object(files.out / SUMMARY, largest_bytes=_READ_AT_ONCE_BYTES),
        )

    def _read_validation(self) -> dict[str, Any] | None:
        """Return the first row about a validation among the rows that are new; None where there is none yet."""
        path = self._files.out / METRICS
        new = read_regular(path, offset=self._metrics_read_to, limit=_READ_AT_ONCE_BYTES) or b""
        whole, newline, _ = new.rpartition(b"\n")
        self._metrics_read_to += len(whole) + len(newline)
        for line in whole.splitlines():
            with suppress(Unreadable):
                row = parse_object(line)
                if row.get("kind") == "val":
                    return row
        return None


class _Sender:
    """Sends to one channel, in a thread of its own."""

    def __init__(self, run_dir: Path, channel: Channel) -> None:
        self._dir = run_dir
        self._channel = channel
        self._waiting: Queue[Notice | None] = Queue(_MOST_WAITING)
        self._is_told = False
        self.thread = threading.Thread(target=self._work, name=f"notices to {channel.kind}", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def take(self, notice: Notice) -> None:
        """Send the notice soon, where the channel asks for its event; leave it out where too many wait."""
        if notice.event in self._channel.events:
            with suppress(Full):
                self._waiting.put_nowait(notice)

    def dismiss(self) -> None:
        """End the thread once all that waits is sent."""
        with suppress(Full):
            self._waiting.put_nowait(None)

    def _work(self) -> None:
        while (notice := self._waiting.get()) is not None:
            self._send(notice)

    def _send(self, notice: Notice) -> None:
        try:
            deliver(self._channel, notice)
        except NotDelivered as err:
            self._tell(str(err))

    def _tell(self, why: str) -> None:
        if self._is_told:
            return
        self._is_told = True
        with suppress(OSError):
            append_to_log(self._dir, f"cannot notify {self._channel}: {why}; the run goes on without it")
