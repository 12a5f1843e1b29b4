"""Fetch again and again while a job runs, so that new files come home soon after they are written."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from cloudrun.catalog.infras import CAPABILITIES
from cloudrun.errors import Interrupted, RunNotFinished, StoreError
from cloudrun.protocol.outputs import METRICS_KEY
from cloudrun.runs.context import Context
from cloudrun.runs.refresh import refresh
from cloudrun.runs.results import Listener, copy_home
from cloudrun.state.run import Run

# New at every look: a line each time would hide the lines about checkpoints.
_ALWAYS_NEW = (METRICS_KEY,)


def fetch_until_it_ends(run: Run, context: Context, *, to: Path | None, best_only: bool, listener: Listener) -> Path:
    """Fetch until the run has ended and all of its results are home; return their folder.

    While the job runs, errors of the connection are reported and the fetch is tried again. Raises Interrupted on
    Ctrl-C, and the errors of `copy_home` once the run has ended.
    """
    quiet = replace(listener, on_file=lambda entry: None if entry.key in _ALWAYS_NEW else listener.on_file(entry))
    trouble = ""
    try:
        while True:
            run = refresh(context.current(run), context)
            has_ended = run.phase.is_final
            try:
                folder = copy_home(run, context.ledger, to=to, best_only=best_only, listener=quiet)
                trouble = ""
                if has_ended:
                    return folder
            except (RunNotFinished, StoreError) as err:
                if has_ended and not _went_meanwhile(run, context):
                    raise
                if isinstance(err, StoreError) and err.message != trouble:
                    trouble = err.message
                    listener.say(f"{err.message}; trying again while the job runs")
            time.sleep(CAPABILITIES[run.backend].fetch_pause_s)
    except KeyboardInterrupt:
        raise _interrupted(run) from None


def _went_meanwhile(run: Run, context: Context) -> bool:
    """Return whether another command has just ended the machine: it had brought all results home before."""
    return run.released_at is None and context.current(run).released_at is not None


def _interrupted(run: Run) -> Interrupted:
    if run.phase.is_final:
        return Interrupted("interrupted; what has come stays", hint=f"`cloudrun fetch {run.run_id}` takes the rest")
    return Interrupted(
        f"interrupted; `{run.run_id}` goes on" + (" and bills" if run.quote and run.quote.hourly_usd else ""),
        hint=f"`cloudrun fetch {run.run_id} --watch` again, or `cloudrun down {run.run_id}` to end it",
    )
