"""Look at runs that go on, as often as somebody watches: their heartbeat, metrics and log, where these lie now.

What is seen is shown and written nowhere: the commands that follow a run keep the ledger.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from cloudrun.backends import open_backend
from cloudrun.catalog.infras import CAPABILITIES
from cloudrun.errors import CloudrunError
from cloudrun.files.untrusted import LARGEST_RESULT_BYTES
from cloudrun.protocol.machine_use import MachineSample, parse_machine_use
from cloudrun.protocol.metrics import MetricsRow, parse_metrics
from cloudrun.protocol.outputs import MACHINE_KEY, METRICS_KEY
from cloudrun.runs.follow import LogReader
from cloudrun.runs.last_word import BadResult, read_progress, read_result
from cloudrun.runs.log_start import offset_of_tail
from cloudrun.runs.source import source_of
from cloudrun.state.records import JobState, Progress, now_utc
from cloudrun.state.run import Run, Sighting
from cloudrun.stores import Store
from cloudrun.text.terminal import for_terminal, without_controls
from cloudrun.ui.records import Records

LOG_LINES = 200  # that a page shows
_LONGEST_LINE = 2000
_METRICS_EVERY_S = 2.0
_LOOK_EVERY_S = 1.0
_REMOTE_EVERY_S = 3.0
_AT_ONCE = 8  # machines that are looked at


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run as it was last seen. `lines` are the last lines of its log, of which `next_line` were read in all.

    `trouble`: why it could not be seen better, empty where it could.
    """

    run: Run
    metrics: Sequence[MetricsRow]
    machine: Sequence[MachineSample]
    lines: tuple[str, ...]
    next_line: int
    trouble: str


class Watched:
    """One run that somebody watches; all who do share its looks. May be used from several threads."""

    def __init__(self, run: Run, records: Records) -> None:
        self.name = secrets.token_hex(4)  # line numbers of another server mean other lines
        self._run_id = run.run_id
        self._records = records
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._metrics_at = float("-inf")
        self._metrics_text, self._machine_text = b"", b""
        self._metrics: Sequence[MetricsRow] = ()
        self._machine: Sequence[MachineSample] = ()
        self._attempt: object = None
        self._reader: LogReader | None = None
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._next_line = 0
        self._last = Snapshot(run, (), (), (), 0, "")

    @property
    def last(self) -> Snapshot:
        """Return what was seen last, without a look."""
        return self._last

    def look(self) -> Snapshot:
        """Return the run as it is now; within a second as it was a moment ago."""
        with self._lock:
            run = self._records.get(self._run_id) or self._last.run
            pause_s = _REMOTE_EVERY_S if CAPABILITIES[run.backend].is_remote else _LOOK_EVERY_S
            if time.monotonic() - self._looked_at >= pause_s:
                self._last = self._look(run)
                self._looked_at = time.monotonic()
            return self._last

    def _look(self, run: Run) -> Snapshot:
        trouble = ""
        try:
            store = source_of(run)
            if store is not None:
                run = _seen(run, store, self._records)
                self._read_metrics(store)
                self._read_log(run, store)
        except CloudrunError as err:
            trouble = f"{err.message}; what is shown was seen before"
        return Snapshot(run, self._metrics, self._machine, tuple(self._lines), self._next_line, trouble)

    def _read_metrics(self, store: Store) -> None:
        if time.monotonic() - self._metrics_at < _METRICS_EVERY_S:
            return
        content = store.read(METRICS_KEY, limit=LARGEST_RESULT_BYTES) or b""
        if content != self._metrics_text:
            self._metrics_text, self._metrics = content, parse_metrics(content.decode("utf-8", "replace"))
        content = store.read(MACHINE_KEY, limit=LARGEST_RESULT_BYTES) or b""
        if content != self._machine_text:
            self._machine_text, self._machine = content, parse_machine_use(content.decode("utf-8", "replace"))
        self._metrics_at = time.monotonic()

    def _read_log(self, run: Run, store: Store) -> None:
        if self._reader is None or self._attempt != run.attempt:
            self._reader = LogReader(store, offset_of_tail(store, LOG_LINES))
            self._attempt = run.attempt
        self._reader.go_on_in(store)  # the bucket, once the machine does not answer
        for line in self._reader.lines(last=run.phase.is_final):
            self._lines.append(_shown(line))
            self._next_line += 1


class Live:
    """The runs that go on. May be used from several threads."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._lock = threading.Lock()
        self._watched: dict[str, Watched] = {}
        self._looking: set[str] = set()
        self._is_closed = False

    def watched(self, run: Run) -> Watched:
        """Return the shared looks at `run`."""
        with self._lock:
            return self._watched.setdefault(run.run_id, Watched(run, self._records))

    def as_last_seen(self, run: Run) -> Snapshot | None:
        """Return the run without waiting for a machine: a rented machine is looked at for the next time.

        None for a run that has ended, and for a run of which nothing was seen yet.
        """
        if run.phase.is_final:
            return None
        watched = self.watched(run)
        if not CAPABILITIES[run.backend].is_remote:
            return watched.look()
        with self._lock:
            if run.run_id not in self._looking and len(self._looking) < _AT_ONCE and not self._is_closed:
                self._looking.add(run.run_id)
                # A daemon: a machine that does not answer must not keep the command from ending.
                threading.Thread(target=self._look, args=(run.run_id, watched.look), daemon=True).start()
        return watched.last if watched.last.run.attempt == run.attempt else None

    def close(self) -> None:
        """Begin no further look."""
        self._is_closed = True

    def _look(self, run_id: str, look: Callable[[], object]) -> None:
        try:
            look()
        finally:
            with self._lock:
                self._looking.discard(run_id)


def _seen(run: Run, store: Store, records: Records) -> Run:
    """Return what a look at the run's files makes of its record; a machine that is silent is not taken for lost."""
    if run.phase.is_final:
        return run
    is_remote = CAPABILITIES[run.backend].is_remote
    # Before its files: a worker that ends in between has left its result.
    job = JobState.UNKNOWN if is_remote else open_backend(run.backend, records.ledger.home).observe(run)
    result, progress = read_result(store), read_progress(store)
    if isinstance(result, BadResult):
        result = None
    if result is None and job is JobState.UNKNOWN and progress is not None and _is_fresh(run, progress):
        job = JobState.ACTIVE
    if result is None and job is JobState.IDLE and records.ledger.is_launching(run.run_id):
        return run
    return run.looked_at(Sighting(now_utc(), job, progress, result))


def _is_fresh(run: Run, progress: Progress) -> bool:
    silence = timedelta(seconds=CAPABILITIES[run.backend].silence_s)
    return abs(now_utc() - progress.heartbeat_at) <= silence


def _shown(line: str) -> str:
    """Return a line of the log as a page shows it: the last state of a bar, without colours, of a bounded length."""
    text = without_controls(for_terminal(line[: 4 * _LONGEST_LINE]))
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]} ..."
