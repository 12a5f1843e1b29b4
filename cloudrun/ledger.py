"""The ledger: one JSON file a run under `CLOUDRUN_HOME`, written before money is spent.

Each change is a read-change-replace under a lock, by a temporary file, fsync and rename: a kill at
any instant leaves the old record or the new one, and two commands at once lose nothing.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from cloudrun.errors import CloudrunError, NoSuchRun
from cloudrun.run import Run

_LOCK_PATIENCE_S = 1.0


class LedgerDamaged(CloudrunError):
    """A record that is not one of ours: somebody edited it, or the disk did."""


class BeingLaunched(CloudrunError):
    """Two commands at one run would rent twice, or end what the other has just started."""


class Ledger:
    """All runs that this computer knows of."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._records = home / "ledger"

    def add(self, run: Run) -> None:
        """Record a new run. Raises FileExistsError where the id is taken."""
        with self._locked(run.run_id):
            path = self._path(run.run_id)
            if path.exists():
                raise FileExistsError(path)
            self._write(path, run)

    def change(self, run_id: str, **changes: Any) -> Run:
        """Replace the named fields and return the new record."""
        return self.update(run_id, lambda _: changes)

    def update(self, run_id: str, changes: Callable[[Run], Mapping[str, Any]]) -> Run:
        """Replace the fields that `changes` says for the record as it is now, and return the new record."""
        with self._locked(run_id):
            run = self._read(self._path(run_id))
            # Validated again: model_copy() alone would take anything.
            changed = Run.model_validate({**run.model_dump(), **changes(run)})
            self._write(self._path(run_id), changed)
            return changed

    def get(self, run_id: str) -> Run:
        return self._read(self._path(run_id))

    def find(self, prefix: str | None) -> Run:
        """The run with this id or unique prefix; the newest one for None."""
        runs = self.all()
        if prefix is not None and (self._records / f"{prefix}.json").exists():
            return self.get(prefix)  # a damaged record says so
        if not runs:
            raise NoSuchRun("there are no runs yet", hint="start one: `cloudrun launch --infra local jobs/demo.yaml`")
        if prefix is None:
            return runs[-1]
        exact = [run for run in runs if run.run_id == prefix]
        found = exact or [run for run in runs if run.run_id.startswith(prefix)]
        if len(found) == 1:
            return found[0]
        if not found:
            raise NoSuchRun(f"there is no run `{prefix}`", hint="`cloudrun ps --all` lists every run")
        names = ", ".join(run.run_id for run in found)
        raise NoSuchRun(f"`{prefix}` is the start of {len(found)} runs: {names}", hint="type one more letter")

    def find_all(self, prefixes: Sequence[str] | None) -> list[Run]:
        """The runs that are named, or the newest one where none is."""
        return [self.find(prefix) for prefix in prefixes] if prefixes else [self.find(None)]

    def all(self) -> list[Run]:
        """Every readable run, oldest first; `damaged` names the others."""
        runs, _ = self._scan()
        return sorted(runs, key=lambda run: (run.created_at, run.run_id))

    def keep_log_index(self, run_id: str, index: bytes) -> None:
        """When each stretch of a fetched log was written: of no use to a person, so not among the results."""
        (self.home / "log-index").mkdir(parents=True, exist_ok=True)
        (self.home / "log-index" / run_id).write_bytes(index)

    def log_index(self, run_id: str) -> bytes | None:
        try:
            return (self.home / "log-index" / run_id).read_bytes()
        except FileNotFoundError:
            return None

    def cut_short(self) -> list[Run]:
        """Runs on a machine whose launch did not come to its end, and which nobody is launching now."""
        return [run for run in self.all() if run.may_bill and not run.handed_over and not self.is_launching(run.run_id)]

    def damaged(self) -> list[LedgerDamaged]:
        """Records that cannot be read: each may stand for a machine that bills."""
        return self._scan()[1]

    def _scan(self) -> tuple[list[Run], list[LedgerDamaged]]:
        runs, damaged = [], []
        for path in sorted(self._records.glob("*.json")):
            try:
                runs.append(self._read(path))
            except LedgerDamaged as err:
                damaged.append(err)
        return runs, damaged

    @contextmanager
    def launching(self, run_id: str) -> Iterator[None]:
        """Held by the command that is launching `run_id`; the lock goes with the process, however it ends.

        Raises BeingLaunched where another command holds it. The file stays: one that is removed could be
        locked twice.
        """
        self._records.mkdir(parents=True, exist_ok=True)
        with (self._records / f"{run_id}.launch").open("w") as lock:
            if not _is_locked_within(lock, _LOCK_PATIENCE_S):
                raise BeingLaunched(
                    f"another command is launching `{run_id}` right now",
                    hint=f"`cloudrun logs {run_id}` follows it; `cloudrun down {run_id}` stops it",
                )
            yield

    def is_launching(self, run_id: str) -> bool:
        """Whether a living command is still launching this run."""
        try:
            with (self._records / f"{run_id}.launch").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    def _path(self, run_id: str) -> Path:
        return self._records / f"{run_id}.json"

    def _read(self, path: Path) -> Run:
        try:
            return Run.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise NoSuchRun(f"there is no run `{path.stem}`", hint="`cloudrun ps --all` lists every run") from None
        except (ValidationError, OSError) as err:
            raise LedgerDamaged(
                f"the ledger's record {path} cannot be read: {str(err).splitlines()[0]}",
                hint=f"the machine, if it is up, is `cloudrun-{path.stem}`: "
                f"`sky down cloudrun-{path.stem}`, then move that file away",
            ) from None

    def _write(self, path: Path, run: Run) -> None:
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(run.model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # else the rename itself may be lost with the power
        finally:
            os.close(folder)

    @contextmanager
    def _locked(self, run_id: str) -> Iterator[None]:
        self._records.mkdir(parents=True, exist_ok=True)
        with (self._records / f"{run_id}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _is_locked_within(lock: IO[str], seconds: float) -> bool:
    """Whoever only looks at the lock holds it for an instant."""
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        else:
            return True
