"""fetch: bring a run's results home, once or for as long as it runs; a finished run's machine then ends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cloudrun.protocol.words import OnFinish
from cloudrun.runs.context import Context
from cloudrun.runs.down import end_billing
from cloudrun.runs.fetch_watch import fetch_until_it_ends
from cloudrun.runs.lost import refuse_stopped
from cloudrun.runs.results import Listener, copy_home
from cloudrun.state.run import Run


@dataclass(frozen=True, slots=True)
class Fetched:
    """The folder of the fetched results, and the run's record after the fetch."""

    run: Run
    folder: Path


def fetch(  # noqa: PLR0913 - each is an option of `fetch`
    run: Run,
    context: Context,
    *,
    to: Path | None = None,
    best_only: bool = False,
    watch: bool = False,
    listener: Listener | None = None,
) -> Fetched:
    """Copy the run's results as they are now; with `watch` go on until the run has ended.

    Ends the machine of a run that has ended, once all of its results are home and if its job file says `down`. Raises
    RunNotFinished where there is nothing yet, StoreError where a file does not arrive whole.
    """
    refuse_stopped(run)
    heard_by = listener or Listener(say=context.say)
    if watch:
        folder = fetch_until_it_ends(run, context, to=to, best_only=best_only, listener=heard_by)
    else:
        folder = copy_home(run, context.ledger, to=to, best_only=best_only, listener=heard_by)
    run = context.current(run)
    if run.home_complete and run.may_bill and run.phase.is_final and run.on_finish is OnFinish.DOWN:
        run = end_billing(run, context)
    return Fetched(run, folder)
