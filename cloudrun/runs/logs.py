"""logs: a run's log from where it is now, whole or from a place in it, and on while the job runs."""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime
from pathlib import Path

from cloudrun.errors import RunNotFinished
from cloudrun.protocol.run_folder import LOG, STATUS
from cloudrun.runs.context import Context
from cloudrun.runs.follow import LogReader, followed
from cloudrun.runs.log_start import start_offset
from cloudrun.runs.lost import refuse_stopped
from cloudrun.runs.source import is_wiped, source_of
from cloudrun.state.run import Run
from cloudrun.stores import Store
from cloudrun.stores.directory import DirectoryStore


def logs(
    run: Run, context: Context, *, follow: bool = True, tail: int | None = None, since: datetime | None = None
) -> Generator[str, None, Run]:
    """Yield the lines of a log, with `follow` until the job has ended; returns the run as it is then.

    `tail`: the last so many lines; `since`: what was written at that moment or later. Raises RunNotFinished where
    there is no log yet.
    """
    store = log_of(run)
    index = context.ledger.log_index(run.run_id)
    reader = LogReader(store, start_offset(store, tail=tail, since=since, index_at_home=index))
    if follow and not run.phase.is_final:
        return (yield from followed(run, context, reader=reader))
    yield from reader.lines(last=True)
    return run


def log_of(run: Run) -> Store:
    """Where the log is now: on the machine; once that is gone, at home, or in the bucket where it is not all home."""
    refuse_stopped(run)
    is_home = run.released_at is not None and run.home_complete
    is_lost_here = run.store_uri is None and is_wiped(run)
    store = None if is_home or is_lost_here else source_of(run)
    if store is not None and (run.store_uri is None or store.read(STATUS, limit=1) is not None):
        return store
    if run.folder is not None and (Path(run.folder) / LOG).is_file():
        return DirectoryStore(Path(run.folder))
    why = f": {run.message}" if run.message else ""
    raise RunNotFinished(
        f"`{run.run_id}` has no log ({run.phase.value}{why})",
        hint=f"`cloudrun down {run.run_id}` ends its bill" if is_lost_here else "`cloudrun ps --all` lists every run",
    )
