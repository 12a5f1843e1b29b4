"""The files by which the worker speaks to the outside: log, heartbeat, result. Replaced whole, never half."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

from cloudrun import atomic
from cloudrun.untrusted import read_object

_LARGEST_BYTES = 1_000_000


def utc(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def replace_text(path: Path, text: str) -> None:
    """Write `text` under a temporary name and rename it: readers see all of it or the old one.

    A folder that the job has made of that name is moved aside: nothing else can take its place.
    """
    if path.is_dir():
        path.rename(path.with_name(f"{path.name}.folder-{time.time_ns()}"))
    atomic.write(path, text, durable=True)


class Journal:
    """Owns `log.txt`, `status.json` and `result.json` of one run folder."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.started_at = time.time()
        self.phases: list[dict[str, Any]] = []
        self.projected: dict[str, Any] = {}  # the corrected estimate, for the heartbeat
        self._log: BinaryIO = (run_dir / "log.txt").open("ab", buffering=0)
        self._index: BinaryIO = (run_dir / "log.index").open("ab", buffering=0)
        self._indexed_to = 0
        self._beat_at = 0.0
        self._phase_from = self.started_at
        self._phase = "start"

    @property
    def log_fd(self) -> int:
        """For children to append to: what they print lands in order, with no pipe to break."""
        return self._log.fileno()

    def say(self, text: str) -> None:
        with suppress(OSError):  # a disk that is full for a moment is no reason to end the job
            self._log.write(f"cloudrun: {text}\n".encode())

    def enter(self, phase: str) -> None:
        """A new phase begins; the one before it is closed with its duration."""
        now = time.time()
        self._close_phase(now)
        self._phase, self._phase_from = phase, now
        self.beat(force=True)

    def beat(self, *, force: bool = False) -> None:
        """Heartbeat, at most every 2 s, with what the trainer says of its progress."""
        with suppress(OSError):  # a disk that is full for a moment
            self._beat(force=force)

    def _beat(self, *, force: bool) -> None:
        now = time.time()
        self._index_log(now)
        if not force and now - self._beat_at < 2:
            return
        self._beat_at = now
        status: dict[str, Any] = {
            "phase": self._phase,
            "heartbeat_at": utc(now),
            "started_at": utc(self.started_at),
            "phase_began": round(self._phase_from, 3),
            "phases": self.phases,
        }
        status.update(self._progress())
        status.update(self.projected)
        replace_text(self.run_dir / "status.json", json.dumps(status))

    def finish(self, *, reason: str, exit_code: int, message: str) -> None:
        """The last word: after this the run's phase is final."""
        self.beat(force=True)  # before the result: whoever finds that has the last progress, too
        now = time.time()
        self._close_phase(now)
        _write_result(
            self.run_dir,
            reason=reason,
            exit_code=exit_code,
            message=message,
            started_at=utc(self.started_at),
            finished_at=utc(now),
            phases=self.phases,
        )

    def asked_to_stop(self) -> dict[str, Any] | None:
        """Why, where somebody wrote it down; `{}` where a person asked; None where nobody did."""
        if not (self.run_dir / "stop").exists():
            return None
        return read_object(self.run_dir / "stop") or {}

    def tail(self, lines: int = 3) -> str:
        """The last lines of the log that are not the worker's own: usually the error."""
        with (self.run_dir / "log.txt").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            text = file.read().decode("utf-8", "replace")
        kept = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("cloudrun: ")]
        for line in reversed(kept):
            if line.startswith("error: "):
                return line.removeprefix("error: ")
        return " / ".join(kept[-lines:])

    def _close_phase(self, now: float) -> None:
        if self._phase == "start":
            return
        self.phases.append(
            {
                "name": self._phase,
                "from": utc(self._phase_from),
                "to": utc(now),
                "seconds": round(now - self._phase_from, 3),
            }
        )

    def _index_log(self, now: float) -> None:
        """`offset time` lines: what stood at `offset` and after was written at `time` or later."""
        size = os.fstat(self._log.fileno()).st_size
        if size > self._indexed_to:
            self._index.write(f"{self._indexed_to} {now:.1f}\n".encode())
            self._indexed_to = size

    def _progress(self) -> dict[str, Any]:
        progress = read_object(self.run_dir / "out" / "progress.json")
        if progress is None:
            return {}
        told = {key: progress.get(key) for key in ("epoch", "epochs", "eta_s")}
        return {key: value for key, value in told.items() if value is None or isinstance(value, (int, float))}


def append_to_log(run_dir: Path, text: str) -> None:
    """A line of the worker's own, whole, whoever else writes."""
    with (run_dir / "log.txt").open("ab", buffering=0) as log:
        log.write(f"cloudrun: {text}\n".encode())


def last_word(run_dir: Path) -> dict[str, Any] | None:
    """Return the shift's `result.json`; None while there is none, or a file of that name that the job has made.

    A job that writes over it early must not be taken for one that has ended.
    """
    result = read_object(run_dir / "result.json")
    if result is None or not isinstance(result.get("reason"), str):
        return None
    code = result.get("exit_code")
    return result if isinstance(code, int) and not isinstance(code, bool) and abs(code) < 1 << 31 else None


def bury(run_dir: Path, message: str, *, reason: str = "failed", exit_code: int = 1) -> None:
    """Write the last word of a shift that died without one, from its last heartbeat."""
    status = read_object(run_dir / "status.json") or {}
    now = utc(time.time())
    asked = read_object(run_dir / "stop") or {}
    append_to_log(run_dir, f"{reason}: {message}")
    _write_result(
        run_dir,
        reason=str(asked.get("reason", reason)),
        exit_code=exit_code,
        message="; ".join(str(one) for one in (asked.get("message"), message) if one),
        started_at=status.get("started_at", now),
        finished_at=now,
        phases=[*_phases(status), *_open_phase(status)],
    )


def _open_phase(status: dict[str, Any]) -> list[dict[str, Any]]:
    began, now = status.get("phase_began"), time.time()
    if not isinstance(began, int | float) or not 0 <= now - began < now:
        return []
    return [{"name": str(status.get("phase")), "from": utc(began), "to": utc(now), "seconds": round(now - began, 3)}]


def _phases(status: dict[str, Any]) -> list[Any]:
    phases = status.get("phases")
    return phases if isinstance(phases, list) else []


def _write_result(run_dir: Path, **fields: Any) -> None:
    replace_text(run_dir / "result.json", json.dumps(fields, indent=1))
