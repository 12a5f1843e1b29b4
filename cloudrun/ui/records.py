"""Keep what was read of the ledger and of the results: a file is read again only when it has changed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

from cloudrun.errors import NoSuchRun
from cloudrun.protocol.outputs import SUMMARY
from cloudrun.state.ledger import Ledger, LedgerDamaged, Stamp
from cloudrun.state.received import Summary, summary_at
from cloudrun.state.run import Run

Value = TypeVar("Value")
_SUMMARIES = 10_000


class Records:
    """The runs of the ledger. May be used from several threads."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Stamp, Run | LedgerDamaged]] = {}

    def all(self) -> tuple[list[Run], list[LedgerDamaged]]:
        """Return the readable runs, newest first, and the records that cannot be read."""
        with self._lock:
            self._read(self.ledger.stamps())
            found = [one for _, one in self._known.values()]
        runs = [one for one in found if isinstance(one, Run)]
        damaged = [one for one in found if isinstance(one, LedgerDamaged)]
        return sorted(runs, key=lambda run: (run.created_at, run.run_id), reverse=True), damaged

    def get(self, run_id: str) -> Run | None:
        """Return the run with this very id; None where the ledger has none, or where its record cannot be read."""
        runs, _ = self.all()
        return next((run for run in runs if run.run_id == run_id), None)

    def _read(self, stamps: dict[str, Stamp]) -> None:
        self._known = {run_id: known for run_id, known in self._known.items() if run_id in stamps}
        for run_id, stamp in stamps.items():
            if run_id in self._known and self._known[run_id][0] == stamp:
                continue
            try:
                self._known[run_id] = (stamp, self.ledger.get(run_id))
            except LedgerDamaged as err:
                self._known[run_id] = (stamp, err)
            except NoSuchRun:  # removed since it was listed
                self._known.pop(run_id, None)


class Kept(Generic[Value]):
    """The last `most` values, each with the stamp of what it was made from. May be used from several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._values: OrderedDict[str, tuple[Hashable, Value]] = OrderedDict()

    def get(self, key: str, stamp: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of `key`, made anew where it was made from something else."""
        with self._lock:
            known = self._values.get(key)
            if known is not None and known[0] == stamp:
                self._values.move_to_end(key)
                return known[1]
        made = make()  # without the lock: others need not wait for it
        with self._lock:
            self._values[key] = (stamp, made)
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return made


class Summaries:
    """The `summary.json` of runs whose results are at home."""

    def __init__(self) -> None:
        self._kept: Kept[Summary] = Kept(_SUMMARIES)

    def of(self, run: Run) -> Summary:
        """Return the summary of `run`; an empty one where nothing is at home."""
        if run.folder is None:
            return Summary()
        folder = Path(run.folder)
        return self._kept.get(run.run_id, stamp_of(folder / SUMMARY), lambda: summary_at(folder)[0])


def stamp_of(path: Path) -> Hashable:
    """Return a value that changes when the file is written, removed or made."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
