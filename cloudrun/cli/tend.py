"""`tend`: look at every run; one whose machine was taken away goes on by itself, or is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cloudrun.cli import completion
from cloudrun.cli.app import app
from cloudrun.cli.console import Transfer, answer, answer_json, note, say, warn
from cloudrun.cli.groups import RUN
from cloudrun.cli.looking import looked_at
from cloudrun.errors import CloudrunError, ExitCode

if TYPE_CHECKING:
    from cloudrun.state.ledger import Ledger
    from cloudrun.state.run import Run


@app.command(rich_help_panel=RUN, epilog="Example:\n\n  cloudrun tend\n")
def tend(
    run_id: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="Run id or its start. [default: all]", autocompletion=completion.run_ids),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> int:
    """Look at your runs; one whose machine was taken away goes on by itself, where its job has `recoveries`."""
    from cloudrun.render.tables import ps_table, run_row
    from cloudrun.state.home import home_folder
    from cloudrun.state.ledger import Ledger
    from cloudrun.state.records import now_utc

    ledger = Ledger(home_folder())
    wanted = [ledger.find(run_id)] if run_id else ledger.all()
    runs = [run for run in wanted if not run.phase.is_final or run.may_bill or run.was_taken_away]
    failed = False
    tended = []
    for run in runs:
        try:
            tended.append(_tended(run, ledger))
        except CloudrunError as err:  # the others are looked at all the same
            warn(f"{run.run_id}: {err.message}; {err.hint}")
            tended.append(ledger.get(run.run_id))
            failed = True
    if as_json:
        answer_json([run_row(run, now_utc()) for run in tended])
    elif tended:
        answer(ps_table(tended, now_utc()))
    else:
        note("no run needs anything")
    return ExitCode.FAILED if failed else ExitCode.DONE


def _tended(run: Run, ledger: Ledger) -> Run:
    """Look at one run, and let it go on where its machine was taken away."""
    from cloudrun.runs.console import Console
    from cloudrun.runs.context import Context
    from cloudrun.runs.tend import keep_going

    run = looked_at(run, Context.of(run.backend, ledger, Console(say)))
    with Transfer("data sent", files=None) as on_bytes:
        return keep_going(run, ledger, Console(say, note, on_bytes), detach=True)
