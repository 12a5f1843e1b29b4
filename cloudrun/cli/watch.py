"""The command `cloudrun watch`: a dashboard of one run, or of all."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cloudrun.cli.app import app
from cloudrun.cli.console import answer_json, is_terminal, note
from cloudrun.cli.groups import LOOK
from cloudrun.cli.results import JsonOption, RunArgument, open_run
from cloudrun.errors import ExitCode, Interrupted, UsageError

if TYPE_CHECKING:
    from cloudrun.state.run import Run


@app.command(rich_help_panel=LOOK, epilog="Example:\n\n  cloudrun watch\n\n  cloudrun watch --all\n")
def watch(
    run_id: RunArgument = None,
    every: Annotated[bool, typer.Option("--all", help="The list of all runs; Enter watches one.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Live dashboard in the terminal: phase, cost, curves, GPU use, and the log; with `--json`, its state now."""
    from cloudrun.render.tables import run_row
    from cloudrun.runs.context import Context
    from cloudrun.state.home import home_folder
    from cloudrun.state.ledger import Ledger
    from cloudrun.state.records import now_utc

    if every and run_id is not None:
        raise UsageError("`--all` and a run id together make no sense", hint="use one of them")
    ledger = Ledger(home_folder())
    first, _ = (None, None) if every else open_run(run_id)
    if as_json:
        runs = ledger.all() if first is None else [first]
        rows = [run_row(run, now_utc()) for run in runs]
        answer_json(rows if every else rows[0])
        return ExitCode.DONE
    if not is_terminal(sys.stdout) or not is_terminal(sys.stdin) or os.environ.get("TERM") == "dumb":
        raise UsageError("`watch` draws on a terminal, and there is none", hint="`cloudrun logs` prints lines instead")
    from cloudrun.cli.dashboard.app import Dashboard
    from cloudrun.render.receipt_text import receipt_text
    from cloudrun.runs.watching import Watching

    def open_watching(run: Run) -> Watching:
        return Watching(run, Context.of(run.backend, ledger), receipt_text)

    def read_runs() -> list[Run]:
        return sorted(ledger.all(), key=lambda run: (run.may_bill, run.created_at), reverse=True)

    left = Dashboard(open_watching, run=first, read_runs=read_runs).run()
    how, watched = left if left is not None else ("interrupted", None)
    return _conclude(how, None if watched is None else ledger.get(watched))


def _conclude(how: str, run: Run | None) -> int:
    """Say how the run stands once the dashboard is left; end the run where that was asked. Returns the exit code."""
    if run is None:
        return ExitCode.DONE if how == "quit" else ExitCode.INTERRUPTED
    if how == "down":
        from cloudrun.cli.machines import down

        return down([run.run_id])
    if run.phase.is_final:
        note(f"{run.run_id} {run.phase.value}" + (f": {run.message}" if run.exit_code else ""))
        return run.phase.exit_code
    if how == "interrupted":
        raise Interrupted(
            f"no longer watching; `{run.run_id}` goes on",
            hint=f"`cloudrun watch {run.run_id}` shows it again; `cloudrun down {run.run_id}` ends it and its bill",
        )
    note(f"`{run.run_id}` goes on; `cloudrun watch {run.run_id}` shows it again, `cloudrun down {run.run_id}` ends it")
    return ExitCode.DONE
