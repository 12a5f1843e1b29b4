"""The ledger: one JSON file a run under `CLOUDRUN_HOME`, written before money is spent.

Each change is a read-change-replace under a lock, by a temporary file, fsync and rename: a kill at
any instant leaves the old record or the new one, and two commands at once lose nothing.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cloudrun.errors import CloudrunError, NoSuchRun
from cloudrun.files import atomic, locks
from cloudrun.files.untrusted import Unreadable, parse_object, read_limited
from cloudrun.protocol.run_folder import RunFolder
from cloudrun.state.home import LARGEST_RECORD_BYTES
from cloudrun.state.received import understood
from cloudrun.state.run import Run

_LOCK_PATIENCE_S = 1.0

Stamp = tuple[int, int, int]
"""When a record was written (ns), its size in bytes, and the number of its file."""


class LedgerDamaged(CloudrunError):
    """A record of the ledger cannot be read: somebody edited it, or the disk failed."""

    def __init__(self, path: Path, why: str) -> None:
        self.run_id = path.stem
        self.written_at = _written_at(path)
        lock = RunFolder(path.parents[1] / "local" / path.stem).local_lock
        is_local = lock.parent.is_dir()
        machine = f"cloudrun-{path.stem}"
        where = "it ran on this computer" if is_local else f"the machine, if it is up, is `{machine}`"
        command = f"fuser -k {lock}" if is_local else f"sky down {machine}"
        super().__init__(
            f"the ledger's record {path} cannot be read: {why}",
            hint=f"{where}: `{command}`, then move that file away",
        )


class LedgerReadOnly(CloudrunError):
    """No run can be recorded, so none is started: a machine that is in no ledger is a forgotten bill."""

    def __init__(self, folder: Path, err: OSError) -> None:
        super().__init__(
            f"no run can be recorded in {folder}: {err.strerror}; nothing was started",
            hint="make that folder writable, or name another one: `export CLOUDRUN_HOME=...`",
        )


class BeingLaunched(CloudrunError):
    """Another command is launching the run: two at once would rent twice, or end what the other has just started."""


class Ledger:
    """All runs that this computer knows of."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._records = home / "ledger"

    def refuse_read_only(self) -> None:
        """Raise LedgerReadOnly where no run could be recorded: before anything takes time or money. Leaves nothing."""
        import tempfile  # `ps` starts without it

        place = next(folder for folder in (self._records, *self._records.parents) if folder.exists())
        try:
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as err:
            raise LedgerReadOnly(self._records, err) from None

    def add(self, run: Run) -> None:
        """Record a new run. Raises FileExistsError where the id is taken."""
        with self._locked(run.run_id):
            path = self._path(run.run_id)
            if path.exists():
                raise FileExistsError(path)
            self._write(path, run)

    def update(self, run_id: str, step: Callable[[Run], Run]) -> Run:
        """Replace the record, as it is now, by the one that `step` makes of it; return that: `update(id, Run.watched)`.

        Raises NoSuchRun, LedgerDamaged; ValueError where the new record could not be read back.
        """
        with self._locked(run_id):
            changed = step(self._read(self._path(run_id)))
            self._write(self._path(run_id), changed)
            return changed

    def get(self, run_id: str) -> Run:
        """Return the record with this very id. Raises NoSuchRun, LedgerDamaged."""
        return self._read(self._path(run_id))

    def find(self, prefix: str | None) -> Run:
        """Return the run with this id or unique prefix; the newest run for None.

        Raises NoSuchRun where there is none or several; LedgerDamaged where the record that is meant cannot be read.
        """
        if prefix is not None and not prefix.strip():
            raise NoSuchRun("the name of the run is empty", hint="`cloudrun ps --all` lists every run")
        runs, damaged = self._scan()
        if prefix is None:
            return _newest(runs, damaged)
        if not runs and not damaged:
            raise _no_runs()
        exact = [run for run in runs if run.run_id == prefix]
        found = exact or [run for run in runs if run.run_id.startswith(prefix)]
        unread = [] if exact else [one for one in damaged if one.run_id.startswith(prefix)]
        if [one.run_id for one in unread] == [prefix] or (len(unread) == 1 and not found):
            raise unread[0]
        if len(found) == 1 and not unread:
            return found[0]
        if not found and not unread:
            raise NoSuchRun(f"there is no run `{prefix}`", hint="`cloudrun ps --all` lists every run")
        ids = [run.run_id for run in found] + [one.run_id for one in unread]
        raise NoSuchRun(f"`{prefix}` is the start of {len(ids)} runs: {', '.join(ids)}", hint="type one more letter")

    def find_all(self, prefixes: Sequence[str] | None) -> list[Run]:
        """Return the runs with these ids or prefixes; the newest run where none is given. Raises as `find` does."""
        return [self.find(prefix) for prefix in prefixes] if prefixes else [self.find(None)]

    def all(self) -> list[Run]:
        """Return every readable run, oldest first; `damaged` names the others."""
        return self._scan()[0]

    def stamps(self) -> dict[str, Stamp]:
        """Return a value for each record, by run id, that changes when the record is written: to read it only then."""
        found = {}
        for path in self._records.glob("*.json"):
            with suppress(OSError):  # removed since it was listed
                status = path.stat()
                found[path.stem] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return found

    def keep_log_index(self, run_id: str, index: bytes) -> None:
        """Keep the index of a fetched log (when each part was written): of no use to people, so not in the results."""
        (self.home / "log-index").mkdir(parents=True, exist_ok=True)
        atomic.write(self.home / "log-index" / run_id, index)

    def log_index(self, run_id: str) -> bytes | None:
        """Return the index that `keep_log_index` kept; None where there is none."""
        try:
            return (self.home / "log-index" / run_id).read_bytes()
        except FileNotFoundError:
            return None

    def interrupted(self) -> list[Run]:
        """Return the runs of interrupted launches: each may bill, and no command is launching it now."""
        return [run for run in self.all() if run.may_bill and not run.handed_over and not self.is_launching(run.run_id)]

    def damaged(self) -> list[LedgerDamaged]:
        """Return the records that cannot be read: each may stand for a machine that bills."""
        return self._scan()[1]

    def _scan(self) -> tuple[list[Run], list[LedgerDamaged]]:
        runs, damaged = [], []
        for path in sorted(self._records.glob("*.json")):
            try:
                runs.append(self._read(path))
            except LedgerDamaged as err:
                damaged.append(err)
            except NoSuchRun:
                continue  # removed since it was listed
        return sorted(runs, key=lambda run: (run.created_at, run.run_id)), damaged

    @contextmanager
    def launching(self, run_id: str) -> Iterator[None]:
        """Hold the lock of the command that is launching `run_id`; it is freed with the process, however that ends.

        Raises BeingLaunched where another command holds the lock. The lock's file stays: a file that is removed could
        be locked twice.
        """
        self._records.mkdir(parents=True, exist_ok=True)
        # A command that only looks at the lock (`is_launching`) holds it for an instant.
        held = locks.take(self._records / f"{run_id}.launch", required=True, within_s=_LOCK_PATIENCE_S)
        if held is None:
            raise BeingLaunched(
                f"another command is launching `{run_id}` right now",
                hint=f"`cloudrun logs {run_id}` follows it; `cloudrun down {run_id}` stops it",
            )
        try:
            yield
        finally:
            os.close(held)

    def is_launching(self, run_id: str) -> bool:
        """Return whether a living command is still launching this run."""
        return locks.is_held(self._records / f"{run_id}.launch")

    def _path(self, run_id: str) -> Path:
        return self._records / f"{run_id}.json"

    def _read(self, path: Path) -> Run:
        try:
            content = read_limited(path, LARGEST_RECORD_BYTES)
            if content is None:
                raise NoSuchRun(f"there is no run `{path.stem}`", hint="`cloudrun ps --all` lists every run")
            return _run_from(content)
        except Unreadable as err:
            raise LedgerDamaged(path, str(err)) from None

    def _write(self, path: Path, run: Run) -> None:
        """Write the record durably. Raises ValueError where the record could not be read back."""
        text = run.model_dump_json(indent=1)
        _refuse_unreadable(text)
        for left in path.parent.glob(f"{glob.escape(path.stem)}.*{atomic.UNFINISHED}"):
            left.unlink(missing_ok=True)  # of a command that was killed: whoever writes holds the lock
        temporary = path.with_suffix(f".{os.getpid()}{atomic.UNFINISHED}")
        atomic.write(path, text, temporary=temporary, durable=True, private=True)
        atomic.sync(path.parent)  # else the rename itself may be lost with the power

    @contextmanager
    def _locked(self, run_id: str) -> Iterator[None]:
        self._records.mkdir(parents=True, exist_ok=True)
        with locks.holding(self._records / f"{run_id}.lock"):
            yield


def _run_from(content: bytes) -> Run:
    """Return the run of a record of any version; fields that a newer version added are left out. Raises Unreadable."""
    tree = parse_object(content, largest_bytes=LARGEST_RECORD_BYTES)
    run, wrong = understood(Run, tree)
    if wrong:  # without one of these fields a bill may go unseen
        raise Unreadable(f"{', '.join(f'`{name}`' for name in wrong)}: not what belongs there")
    return run


def _refuse_unreadable(text: str) -> None:
    try:
        again = _run_from(text.encode()).model_dump_json(indent=1)
    except Unreadable as err:
        raise ValueError(f"the ledger could not read this record back: {err}") from err
    if again != text:
        raise ValueError("the ledger would read another record than the one that is to be written")


def _newest(runs: Sequence[Run], damaged: Sequence[LedgerDamaged]) -> Run:
    """Return the newest run. Raises LedgerDamaged where a newer record cannot be read: `down` would end another run."""
    for one in damaged:
        if not runs or one.written_at > runs[-1].created_at.timestamp():
            raise one
    if not runs:
        raise _no_runs()
    return runs[-1]


def _no_runs() -> NoSuchRun:
    return NoSuchRun("there are no runs yet", hint="start one: `cloudrun demo` needs no account and costs nothing")


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
