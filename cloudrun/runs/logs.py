"""logs: show a run's log from the place where it is kept now, whole or in part, and go on while the job runs."""

from __future__ import annotations

import time
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

_PAUSE_S = 0.5


def logs(
    run: Run, context: Context, *, follow: bool = True, tail: int | None = None, since: datetime | None = None
) -> Generator[str, None, Run]:
    """Yield the lines of a log, with `follow` until the job has ended; return the run as it is then.

    `tail`: begin with the last so many lines; `since`: begin with the lines of that moment. Raises RunNotFinished where
    there is no log yet.
    """
    if follow:
        run = await_log(run, context)
    store = log_of(run)
    index = context.ledger.log_index(run.run_id)
    reader = LogReader(store, start_offset(store, tail=tail, since=since, index_at_home=index))
    if follow and not run.phase.is_final:
        return (yield from followed(run, context, reader=reader))
    yield from reader.lines(last=True)
    return run


def await_log(run: Run, context: Context) -> Run:
    """Wait while another command rents the run's machine and starts the job: its log begins then.

    Returns the run as it is as soon as it has a log, or has ended, or nobody is launching it any more.
    """
    if not is_being_rented(run, context):
        return run
    context.say(f"{run.run_id} has no log yet: its machine is being rented; waiting for it ...")
    while is_being_rented(run, context):
        time.sleep(_PAUSE_S)
        run = context.current(run)
    return run


def is_being_rented(run: Run, context: Context) -> bool:
    """Return whether another command rents the run's machine right now."""
    return run.run_uri is None and not run.phase.is_final and context.ledger.is_launching(run.run_id)


def log_of(run: Run) -> Store:
    """Return the store that has the log now. Raises RunNotFinished where there is no log.

    That is the machine; once the machine is gone, the folder at home, or the bucket where not all is home.
    """
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
