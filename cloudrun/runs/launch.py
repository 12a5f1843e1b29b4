"""launch: record, rent, start the worker, send the data, follow, bring home, end the bill. In this order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from signal import SIGHUP, SIGTERM

from cloudrun.interrupts import as_interrupts
from cloudrun.job.commit import commit_of
from cloudrun.runs.attempt import Started, attend, start
from cloudrun.runs.console import Console
from cloudrun.runs.context import Context
from cloudrun.runs.datasets import store_data
from cloudrun.runs.interrupted import end_interrupted, reattach
from cloudrun.runs.prepared import Prepared
from cloudrun.runs.rent import rent
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import now_utc
from cloudrun.state.run import Run, new_run


def launch(prepared: Prepared, ledger: Ledger, console: Console, *, detach: bool) -> Run:
    """Carry out a prepared launch, and return the run's record once the job and its bill have ended.

    With `detach`, return once the job goes on by itself. Interrupted launches of other jobs are ended first; an
    interrupted launch of the same job is continued.
    """
    context = Context(ledger, prepared.backend, console)
    left = prepared.interrupted
    end_interrupted(ledger, console, but=left)
    plan = store_data(prepared.plan, context.state_folder, console.say, console.on_bytes)
    prepared = replace(prepared, plan=plan)
    if left is None:
        return _launch_anew(prepared, context, detach=detach)
    context.update(left, lambda run: run.estimated(prepared.forecast.estimate, prepared.forecast.quote))
    return reattach(left, plan, context, detach=detach)


def _launch_anew(prepared: Prepared, context: Context, *, detach: bool) -> Run:
    plan, forecast = prepared.plan, prepared.forecast
    run = new_run(
        plan.run_id,
        plan.spec.name,
        plan.assignment,
        job_path=str(prepared.job.path.absolute()),
        folder=str(Path("runs").absolute() / plan.run_id),
        now=now_utc(),
    )
    run = run.estimated(forecast.estimate, forecast.quote).checked(prepared.data_check)
    run = run.made_from(commit_of(Path(plan.spec.workdir or prepared.job.path.absolute().parent)))
    with context.ledger.launching(run.run_id), as_interrupts((SIGTERM, SIGHUP)):
        context.ledger.add(run)
        rent(plan, context)
        started = start(plan, context)
        started = Started(context.update(run, Run.left_to_itself), started.reader)
    return attend(started, plan, context, detach=detach)
