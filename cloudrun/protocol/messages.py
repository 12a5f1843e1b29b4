"""Write and read the files by which the worker and its watchers talk: written whole, read with suspicion.

Each type has `write` for the side that sends it, and `read` for the worker's side. A job may have put anything under
these names: content that cannot be understood is None, or is left out. The laptop reads the same files by
`received.py`.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cloudrun.files import atomic
from cloudrun.files.untrusted import read_object
from cloudrun.protocol.words import EndReason, WorkerPhase, word_of

_LARGEST_CODE = 1 << 31
# What the heartbeat passes on of the job's progress.
_ALWAYS_TOLD = ("epoch", "epochs", "eta_s")
_TOLD = (*_ALWAYS_TOLD, "step", "steps", "loss", "images_per_s")


def utc(moment: float) -> str:
    """Return a Unix time as ISO 8601."""
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def replace_text(path: Path, text: str) -> None:
    """Write `text` durably, and as a whole. A folder that the job has made of that name is moved aside."""
    if path.is_dir():
        path.rename(path.with_name(f"{path.name}.folder-{time.time_ns()}"))
    atomic.write(path, text, durable=True)


@dataclass(frozen=True)
class Span:
    """A phase of the worker that is over; times in ISO 8601."""

    name: str
    began_at: str
    ended_at: str
    seconds: float

    @staticmethod
    def between(name: str, began: float, ended: float) -> Span:
        """Return the span of a phase between two Unix times."""
        return Span(name, utc(began), utc(ended), round(ended - began, 3))

    @staticmethod
    def read(plain: object) -> Span | None:
        """Return a span from JSON; None for a value that is not a span."""
        if not isinstance(plain, dict):
            return None
        name, since, until, seconds = (plain.get(key) for key in ("name", "from", "to", "seconds"))
        if not _is_number(seconds) or not all(isinstance(text, str) for text in (name, since, until)):
            return None
        return Span(str(name), str(since), str(until), float(str(seconds)))

    def as_plain(self) -> dict[str, Any]:
        return {"name": self.name, "from": self.began_at, "to": self.ended_at, "seconds": self.seconds}


@dataclass(frozen=True)
class Result:
    """`result.json`, the last word of an attempt: nothing follows it, and without it the job has not ended."""

    reason: EndReason
    exit_code: int
    message: str
    started_at: str
    finished_at: str
    phases: tuple[Span, ...] = ()

    def write(self, path: Path) -> None:
        replace_text(path, json.dumps(self.as_plain(), indent=1))

    def as_plain(self) -> dict[str, Any]:
        return {
            "reason": self.reason.value,
            "exit_code": self.exit_code,
            "message": self.message,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "phases": [phase.as_plain() for phase in self.phases],
        }

    @staticmethod
    def read(path: Path) -> Result | None:
        """Return the result; None while there is none, and where the job itself has made a file of that name.

        A job that writes this file early must not be taken for a job that has ended.
        """
        plain = read_object(path)
        return None if plain is None else result_of(plain)


def result_of(plain: dict[str, Any]) -> Result | None:
    """Return a result from JSON; None where the reason is not a text, or the exit code not an integer in range.

    An unknown reason counts as FAILED: it may be a newer worker's.
    """
    code, reason = plain.get("exit_code"), plain.get("reason")
    if not isinstance(reason, str) or not isinstance(code, int) or isinstance(code, bool) or abs(code) >= _LARGEST_CODE:
        return None
    return Result(
        word_of(EndReason, reason) or EndReason.FAILED,
        code,
        str(plain.get("message", "")),
        str(plain.get("started_at", "")),
        str(plain.get("finished_at", "")),
        _spans(plain.get("phases")),
    )


@dataclass(frozen=True)
class CorrectedEstimate:
    """Seconds and USD of the whole run, from timed steps, as `status.json` tells it."""

    projected_s: float
    projected_usd: float
    rests_on: str

    def as_plain(self) -> dict[str, Any]:
        return {"projected_s": self.projected_s, "projected_usd": self.projected_usd, "rests_on": self.rests_on}


@dataclass(frozen=True)
class Heartbeat:
    """`status.json`: written every two seconds while the worker lives."""

    phase: WorkerPhase | None  # None: a phase of another version of the worker
    heartbeat_at: str
    started_at: str
    phase_began: float | None  # Unix time
    phases: tuple[Span, ...] = ()  # those that are over
    progress: JobProgress | None = None
    corrected: CorrectedEstimate | None = None

    def write(self, path: Path) -> None:
        replace_text(path, json.dumps(self.as_plain()))

    def as_plain(self) -> dict[str, Any]:
        return {
            "phase": None if self.phase is None else self.phase.value,
            "heartbeat_at": self.heartbeat_at,
            "started_at": self.started_at,
            "phase_began": self.phase_began,
            "phases": [phase.as_plain() for phase in self.phases],
            **(self.progress.as_plain() if self.progress is not None else {}),
            **(self.corrected.as_plain() if self.corrected is not None else {}),
        }

    @staticmethod
    def read(path: Path) -> Heartbeat | None:
        """Return what the watchdog needs of the last heartbeat; None where there is no heartbeat that can be read."""
        plain = read_object(path)
        if plain is None:
            return None
        began = plain.get("phase_began")
        return Heartbeat(
            word_of(WorkerPhase, plain.get("phase")),
            str(plain.get("heartbeat_at", "")),
            str(plain.get("started_at", "")),
            float(str(began)) if _is_number(began) else None,
            _spans(plain.get("phases")),
        )


@dataclass(frozen=True)
class StopRequest:
    """`stop`: an empty file where a person asks; from the watchdog with the reason, which becomes the run's."""

    reason: EndReason | None = None
    message: str = ""

    def write(self, path: Path) -> None:
        replace_text(path, json.dumps({"reason": self.reason, "message": self.message}))

    @staticmethod
    def read(path: Path) -> StopRequest | None:
        """Return the request to stop; None where nobody asks."""
        if not path.exists():
            return None
        plain = read_object(path) or {}
        return StopRequest(word_of(EndReason, plain.get("reason")), str(plain.get("message") or ""))


@dataclass(frozen=True)
class Question:
    """`question.json`: it exists while the worker waits for the file `answer`."""

    question: str
    wait_s: float

    def write(self, path: Path) -> None:
        replace_text(path, json.dumps({"question": self.question, "wait_s": self.wait_s}))


@dataclass(frozen=True)
class Begin:
    """`begin`: all machines are ready; HOST:PORT where the job's first process may listen."""

    head: str

    def write(self, path: Path) -> None:
        replace_text(path, json.dumps({"head": self.head}))

    @staticmethod
    def read(path: Path) -> Begin | None:
        """Return the message; None while the machines have not begun, or where it cannot be read."""
        plain = read_object(path)
        return None if not plain else Begin(str(plain.get("head", "127.0.0.1:0")))


@dataclass(frozen=True)
class Timing:
    """What the trainer has timed; a trainer of the user's own need not time anything."""

    timed_steps: int
    timed_s: float
    steps_left: int
    evaluation_left_s: float
    steps_per_epoch: int
    evaluation_is_measured: bool

    @staticmethod
    def read(plain: object) -> Timing | None:
        """Return a timing from JSON; None where a figure is missing, or cannot have been measured."""
        if not isinstance(plain, dict):
            return None
        try:
            timing = Timing(
                int(plain["timed_steps"]),
                float(plain["timed_s"]),
                int(plain["steps_left"]),
                float(plain["evaluation_left_s"]),
                int(plain["steps_per_epoch"]),
                bool(plain["evaluation_is_measured"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        most_steps, longest_s = 10**12, 1e9
        if not (1 <= timing.timed_steps <= most_steps and 0 <= timing.steps_left <= most_steps):
            return None
        if not (0 <= timing.timed_s <= longest_s and 0 <= timing.evaluation_left_s <= longest_s):
            return None
        return timing


@dataclass(frozen=True)
class JobProgress:
    """`out/progress.json`, which the trainer replaces as it goes; numbers as it has written them."""

    told: dict[str, float | None]  # the values of `_TOLD`, as far as they are numbers
    timing: Timing | None = None

    @staticmethod
    def read(path: Path) -> JobProgress | None:
        """Return the job's progress; None where there is no such file, or none that can be read."""
        plain = read_object(path)
        if plain is None:
            return None
        told = {key: plain.get(key) for key in _TOLD if key in plain or key in _ALWAYS_TOLD}
        numbers = {key: value for key, value in told.items() if value is None or _is_number(value)}
        return JobProgress(numbers, Timing.read(plain.get("timing")))

    def as_plain(self) -> dict[str, Any]:
        return dict(self.told)


def _spans(plain: object) -> tuple[Span, ...]:
    found = map(Span.read, plain) if isinstance(plain, list) else ()
    return tuple(span for span in found if span is not None)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
