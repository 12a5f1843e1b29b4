"""watch: keep what is known of one run up to date, in a thread, from its renting to its receipt."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cloudrun.billing.receipt import Receipt, receipt
from cloudrun.errors import CloudrunError, RunNotFinished, StoreError
from cloudrun.files.untrusted import LARGEST_RESULT_BYTES, read_regular
from cloudrun.protocol.machine_use import MachineSample, parse_machine_use
from cloudrun.protocol.metrics import MetricsRow, parse_metrics
from cloudrun.protocol.outputs import MACHINE, MACHINE_KEY, METRICS, METRICS_KEY
from cloudrun.protocol.run_folder import OUT
from cloudrun.runs.console import Console
from cloudrun.runs.context import Context
from cloudrun.runs.follow import LogReader, follow
from cloudrun.runs.log_start import start_offset
from cloudrun.runs.logs import is_being_rented, log_of
from cloudrun.runs.results import metrics_at_home
from cloudrun.state.records import Progress, now_utc
from cloudrun.state.run import Run
from cloudrun.stores import Store, open_store
from cloudrun.text.units import duration

LOG_LINES = 2000
_PAUSE_S = 0.5
_READ_EVERY_S = 3.0
_SAMPLES_KEPT = 20_000
_TAIL_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of a run at one moment. `problem`: why it is not newer; empty where all is well."""

    run: Run
    progress: Progress | None = None
    rows: tuple[MetricsRow, ...] = ()
    samples: tuple[MachineSample, ...] = ()
    lines: tuple[str, ...] = ()
    problem: str = ""
    receipt: str = ""
    has_ended: bool = False


class Watching(threading.Thread):
    """Follows one run in the background; `sight` is what is known of it now."""

    def __init__(self, run: Run, context: Context, receipt_text: Callable[[Receipt], str]) -> None:
        """`receipt_text` writes a receipt for people."""
        super().__init__(name="watching", daemon=True)
        self.sight = Sight(run)
        self._context = replace(context, console=Console(on_line=self._on_line, on_progress=self._on_progress))
        self._receipt_text = receipt_text
        self._is_left = threading.Event()
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._samples: deque[MachineSample] = deque(maxlen=_SAMPLES_KEPT)
        self._sampled_to = 0
        self._read_at = -_READ_EVERY_S
        self._lost_at: float | None = None

    def leave(self) -> None:
        """Stop watching; the run goes on."""
        self._is_left.set()

    def run(self) -> None:
        """Watch until the run has ended, or `leave` is called. An error becomes `problem`."""
        try:
            self._await_machine()
            self._watch()
        except (CloudrunError, OSError) as err:
            self._see(problem=f"{err.message}; {err.hint}" if isinstance(err, CloudrunError) else str(err))

    def _await_machine(self) -> None:
        """Show what SkyPilot says while another command rents the machine."""
        while is_being_rented(self.sight.run, self._context) and not self._is_left.wait(_PAUSE_S):
            self._see(run=self._context.current(self.sight.run), lines=self._rent_log())

    def _watch(self) -> None:
        run = self.sight.run
        if self._is_left.is_set():
            return
        if not run.phase.is_final and run.run_uri is not None:
            store = open_store(run.run_uri)
            reader = LogReader(store, start_offset(store, tail=LOG_LINES, since=None))
            run = follow(run, self._context, reader=reader, until=lambda: self._look(store))
            self._see(run=self._context.current(run))
        if run.phase.is_final:
            self._look_back()

    def _look(self, store: Store) -> bool:
        """Read the figures where that is due; return whether nobody watches any more."""
        now = time.monotonic()
        if now - self._read_at >= _READ_EVERY_S:
            self._read_at = now
            try:
                self._read(store, METRICS_KEY, MACHINE_KEY)
                self._lost_at = None
            except StoreError:
                self._lost_at = self._lost_at or now
        lost_s = None if self._lost_at is None else now - self._lost_at
        problem = "" if lost_s is None else _lost_text(lost_s)
        self._see(run=self._context.current(self.sight.run), lines=tuple(self._lines), problem=problem)
        return self._is_left.is_set()

    def _read(self, store: Store, metrics: str, machine: str) -> None:
        content = store.read(metrics, limit=LARGEST_RESULT_BYTES) or b""
        fresh = store.read(machine, offset=self._sampled_to, limit=LARGEST_RESULT_BYTES) or b""
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._sampled_to += len(whole)
        self._samples.extend(parse_machine_use(whole.decode("utf-8", "replace")))
        self._see(rows=tuple(parse_metrics(content.decode("utf-8", "replace"))), samples=tuple(self._samples))

    def _look_back(self) -> None:
        """Show a run that has ended: its figures, log and receipt, from home or from where they are."""
        run = self._context.current(self.sight.run)
        try:
            store = log_of(run)
            is_home = run.folder is not None and not store.entries(OUT)
            self._sampled_to = 0
            self._samples.clear()
            self._read(store, METRICS if is_home else METRICS_KEY, MACHINE if is_home else MACHINE_KEY)
            reader = LogReader(store, start_offset(store, tail=LOG_LINES, since=None))
            self._lines = deque(reader.lines(last=True), maxlen=LOG_LINES)
        except (RunNotFinished, StoreError) as err:
            self._see(problem=err.message)
        made = receipt(run, now_utc(), metrics_at_home(run)) if run.billed_from is not None else None
        text = "" if made is None else self._receipt_text(made)
        self._see(run=run, lines=tuple(self._lines), receipt=text, has_ended=True)

    def _rent_log(self) -> tuple[str, ...]:
        """Return the last lines that SkyPilot printed while it rents; none for a machine that it does not rent."""
        path = self._context.state_folder / "sky" / f"{self.sight.run.run_id}.log"
        try:
            offset = max(path.stat().st_size - _TAIL_BYTES, 0)
            content = read_regular(path, offset=offset, limit=_TAIL_BYTES) or b""
        except OSError:
            return ()
        return tuple(content.decode("utf-8", "replace").splitlines()[-50:])

    def _on_line(self, line: str) -> None:
        self._lines.append(line)

    def _on_progress(self, progress: Progress) -> None:
        self._see(progress=progress)

    def _see(self, **changes: Any) -> None:
        self.sight = replace(self.sight, **changes)


def _lost_text(seconds: float) -> str:
    return f"no connection to the machine for {duration(round(seconds))}; the run goes on, and so does this"
