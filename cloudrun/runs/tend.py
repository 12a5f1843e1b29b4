"""Let a run go on by itself whose machine was taken away: on another machine, within the same budget.

It is `resume` without a person, so it does only what was agreed to: as often as the job's `recoveries` say, at a price
that is not above the agreed one, and while the budget leaves something to train.
"""

from __future__ import annotations

import time
from pathlib import Path

from cloudrun.billing.agreed import is_too_dear
from cloudrun.errors import CloudrunError, NoMachine
from cloudrun.job.job_file import reload_job
from cloudrun.retry import tries
from cloudrun.runs.console import Console
from cloudrun.runs.context import Context
from cloudrun.runs.down import bring_home, end_billing, end_lost
from cloudrun.runs.prepared import Prepared, examine, prepare_to_resume
from cloudrun.runs.resume import resume
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import Phase
from cloudrun.state.run import Run

# Where there is no machine, another one may come free: half an hour of tries, which cost nothing.
_NO_MACHINE_PAUSES_S = (30, 60, 120, 300, 600, 600)


class GivesUp(CloudrunError):
    """A run whose machine was taken away cannot go on by itself."""


def keep_going(run: Run, ledger: Ledger, console: Console, *, detach: bool = False) -> Run:
    """Let the run go on for as long as its machines are taken away; return its record then.

    With `detach`, return once it goes on. Where it cannot go on, the console says why, and the run stays as it is: a
    person can look and `resume` it.
    """
    while run.was_taken_away:
        try:
            run = _recovered(_closed(run, ledger, console), ledger, console, detach=detach)
        except CloudrunError as err:
            console.say(f"{run.run_id} does not go on by itself: {err.message}; {err.hint}")
            return ledger.get(run.run_id)
        if detach:
            return run
    return run


def _closed(run: Run, ledger: Ledger, console: Console) -> Run:
    """Bring home what the lost machine has left, and end its bill. Raises ResultsNotHome, StillBilling."""
    context = Context.of(run.backend, ledger, console)
    if run.phase is Phase.LOST:
        return end_lost(run, context)
    if not run.may_bill:
        return run
    return end_billing(bring_home(run, context), context)


def _recovered(run: Run, ledger: Ledger, console: Console, *, detach: bool) -> Run:
    """Go on on another machine. Raises GivesUp, NoMachine, or what keeps a resume from being carried out."""
    left = run.recoveries_left
    console.say(
        f"{run.run_id} lost its machine ({run.phase.value}): it goes on on another one, and may {left - 1} more times"
    )
    for pause_s in tries(_NO_MACHINE_PAUSES_S):
        prepared = _prepared(run, ledger, console)
        ledger.update(run.run_id, Run.recovering)
        try:
            return resume(prepared, ledger, console, detach=detach, from_zero=True)
        except NoMachine as err:
            ledger.update(run.run_id, Run.not_recovered)
            if pause_s is None:
                raise
            console.say(f"{err.message}; trying again in {pause_s:g} s, Ctrl-C leaves it")
            time.sleep(pause_s)
            run = ledger.get(run.run_id)
    raise AssertionError


def _prepared(run: Run, ledger: Ledger, console: Console) -> Prepared:
    job = reload_job(run.job, Path(run.job_path), overrides=[], options={})
    prepared = prepare_to_resume(run, examine(job, ledger, console.say, closely=False), ledger)
    prepared.forecast.refuse_hopeless()
    agreed, now = run.price, prepared.forecast.quote
    if agreed is not None and now is not None and is_too_dear(agreed, now):
        raise GivesUp(
            f"the next machine would cost ${now.total_hourly_usd:.4f} an hour, and ${agreed.total_hourly_usd:.4f} was"
            " agreed to",
            hint=f"`cloudrun resume {run.run_id}` goes on at that price",
        )
    return prepared
