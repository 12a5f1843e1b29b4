"""Write the worker's files that others read: log, heartbeat, result. The last two are replaced whole, never half."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from cloudrun.protocol.messages import CorrectedEstimate, Heartbeat, JobProgress, Result, Span, StopRequest, utc
from cloudrun.protocol.outputs import PROGRESS
from cloudrun.protocol.run_folder import RunFolder
from cloudrun.protocol.timing import HEARTBEAT_EVERY_S
from cloudrun.protocol.words import EndReason, JobExit, WorkerPhase


class StatusFiles:
    """Owns `log.txt`, `status.json` and `result.json` of one run folder."""

    def __init__(self, run_dir: Path) -> None:
        self.files = RunFolder(run_dir)
        self.started_at = time.time()
        self.phases: list[Span] = []
        self.corrected: CorrectedEstimate | None = None  # for the heartbeat
        self._log: BinaryIO = self.files.log.open("ab", buffering=0)
        self._index: BinaryIO = self.files.log_index.open("ab", buffering=0)
        self._indexed_to = 0
        self._beat_at = 0.0
        self._phase_from = self.started_at
        self._phase = WorkerPhase.START

    @property
    def log_fd(self) -> int:
        """The descriptor that children append to: their lines land in order, with no pipe that could break."""
        return self._log.fileno()

    def say(self, text: str) -> None:
        """Append a line of the worker's own to the log."""
        with suppress(OSError):  # a disk that is full for a moment is no reason to end the job
            self._log.write(f"cloudrun: {text}\n".encode())

    def enter(self, phase: WorkerPhase) -> None:
        """Begin a phase; record the phase before it with its duration."""
        now = time.time()
        self._close_phase(now)
        self._phase, self._phase_from = phase, now
        self.beat(force=True)

    def correct(self, estimate: CorrectedEstimate) -> None:
        """Tell of a corrected estimate from the next heartbeat on."""
        self.corrected = estimate

    def beat(self, *, force: bool = False) -> None:
        """Write the heartbeat, at most every 2 s unless `force`, with the trainer's progress."""
        with suppress(OSError):  # a disk that is full for a moment
            self._beat(force=force)

    def _beat(self, *, force: bool) -> None:
        now = time.time()
        self._index_log(now)
        if not force and now - self._beat_at < HEARTBEAT_EVERY_S:
            return
        self._beat_at = now
        Heartbeat(
            phase=self._phase,
            heartbeat_at=utc(now),
            started_at=utc(self.started_at),
            phase_began=round(self._phase_from, 3),
            phases=tuple(self.phases),
            progress=JobProgress.read(self.files.out / PROGRESS),
            corrected=self.corrected,
        ).write(self.files.status)

    def finish(self, *, reason: EndReason, exit_code: int, message: str) -> None:
        """Write the result. After this the run's phase is final."""
        self.beat(force=True)  # before the result: whoever finds the result has the last progress, too
        now = time.time()
        self._close_phase(now)
        Result(reason, exit_code, message, utc(self.started_at), utc(now), tuple(self.phases)).write(self.files.result)

    def tail(self, lines: int = 3) -> str:
        """Return the last `error: ` line near the log's end; else the last `lines` that are not the worker's own."""
        with self.files.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            text = file.read().decode("utf-8", "replace")
        kept = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("cloudrun: ")]
        for line in reversed(kept):
            if line.startswith("error: "):
                return line.removeprefix("error: ")
        return " / ".join(kept[-lines:])

    def _close_phase(self, now: float) -> None:
        if self._phase is not WorkerPhase.START:
            self.phases.append(Span.between(self._phase.value, self._phase_from, now))

    def _index_log(self, now: float) -> None:
        """Append a line `offset time` to the log's index, where the log has grown.

        The log from byte `offset` on was written by `time` (Unix time), and after the time of the line before.
        """
        size = os.fstat(self._log.fileno()).st_size
        if size > self._indexed_to:
            self._index.write(f"{self._indexed_to} {now:.1f}\n".encode())
            self._indexed_to = size


def append_to_log(run_dir: Path, text: str) -> None:
    """Append a line of the worker's own to the log; it stays whole, whoever else writes."""
    with RunFolder(run_dir).log.open("ab", buffering=0) as log:
        log.write(f"cloudrun: {text}\n".encode())


def last_word(run_dir: Path) -> Result | None:
    """Return the attempt's result; None while there is none that can be read."""
    return Result.read(RunFolder(run_dir).result)


def record_crash(
    run_dir: Path, message: str, *, reason: EndReason = EndReason.FAILED, exit_code: int = JobExit.FAILED
) -> None:
    """Write the result of an attempt that died without one, from its last heartbeat."""
    files = RunFolder(run_dir)
    beat = Heartbeat.read(files.status)
    asked = StopRequest.read(files.stop) or StopRequest()
    now = time.time()
    append_to_log(run_dir, f"{reason}: {message}")
    Result(
        reason=asked.reason or reason,
        exit_code=int(exit_code),
        message="; ".join(filter(None, (asked.message, message))),
        started_at=(beat.started_at if beat is not None else "") or utc(now),
        finished_at=utc(now),
        phases=() if beat is None else (*beat.phases, *_open_phase(beat, now)),
    ).write(files.result)


def _open_phase(beat: Heartbeat, now: float) -> tuple[Span, ...]:
    """Return the phase in which the attempt died, as a tuple of one; empty where the heartbeat does not say."""
    began = beat.phase_began
    if beat.phase is None or began is None or not 0 <= now - began < now:
        return ()
    return (Span.between(beat.phase.value, began, now),)
