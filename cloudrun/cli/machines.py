"""Commands about machines and their bill: `ps`, `down`, `ssh`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated

import typer

from cloudrun.catalog.infras import BILLED, CAPABILITIES
from cloudrun.cli.app import app
from cloudrun.cli.console import answer, answer_json, confirm, is_terminal, note, paint, say, show_failure, warn
from cloudrun.cli.groups import LOOK, MORE, RESULTS
from cloudrun.cli.looking import looked_at
from cloudrun.cli.results import JsonOption, RunArgument, RunsArgument
from cloudrun.errors import CloudrunError, ExitCode, UsageError

if TYPE_CHECKING:
    from cloudrun.billing.receipt import Receipt
    from cloudrun.runs.console import Console
    from cloudrun.state.ledger import Ledger
    from cloudrun.state.machines import Machine
    from cloudrun.state.run import Run


@app.command(rich_help_panel=LOOK, epilog="Example:\n\n  cloudrun ps --refresh\n")
def ps(
    every: Annotated[bool, typer.Option("--all", help="Runs that ended long ago, too.")] = False,
    ask: Annotated[bool, typer.Option("--refresh", help="Ask the machines, not the ledger alone.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Every run that may cost money, and what it has cost so far."""
    from cloudrun.render.tables import orphan_row, orphans_text, ps_table, run_row, scan_text
    from cloudrun.runs.context import Context
    from cloudrun.runs.lost import stopped_words
    from cloudrun.runs.scan import orphans_known, scan
    from cloudrun.runs.summary import score_text
    from cloudrun.state.home import home_folder
    from cloudrun.state.ledger import Ledger
    from cloudrun.state.records import now_utc

    ledger = Ledger(home_folder())
    if ask:
        try:
            scan(Context.of(BILLED, ledger))
        except CloudrunError as err:  # what the ledger knows is worth showing all the same
            warn(f"the providers could not be asked: {err.message}")
    runs = [run for run in ledger.all() if every or run.may_bill or not run.phase.is_final]
    # Local runs are asked each time: that takes only a look at a lock and two files.
    runs = [_refreshed(run, ledger) if ask or not CAPABILITIES[run.backend].is_remote else run for run in runs]
    if not every:
        runs = [run for run in runs if run.may_bill or not run.phase.is_final]
    runs.sort(key=lambda run: not run.may_bill)  # what costs money comes first
    now = now_utc()
    known, unaccounted = orphans_known(ledger)
    for damaged in ledger.damaged():
        warn(f"{damaged.message}; {damaged.hint}")
    if as_json:
        answer_json([orphan_row(machine, now) for machine in unaccounted] + [run_row(run, now) for run in runs])
        return ExitCode.DONE
    for line in orphans_text(unaccounted, now):
        answer(paint(line, "31", sys.stdout))
    if runs:
        width = get_terminal_size().columns if is_terminal(sys.stdout) else None
        scores = {
            run.run_id: score_text(Path(run.folder)) for run in runs if every and run.home_complete and run.folder
        }
        head, *rows = ps_table(runs, now, width=width, scores=scores).splitlines()
        answer(head)
        for run, row in zip(runs, rows, strict=True):
            answer(paint(row, "31", sys.stdout) if run.may_bill and CAPABILITIES[run.backend].is_billed else row)
    elif not unaccounted:
        answer("no run costs money" if not every else "no runs")
    for run in runs:
        if run.may_bill and run.stopped_at is not None and not run.home_complete and not ask:  # `--refresh` has said it
            warn("; ".join(stopped_words(run)))
    _tell_of_waiting(ledger)
    note(scan_text(known, now))
    return ExitCode.DONE


def _tell_of_waiting(ledger: Ledger) -> None:
    """Name runs that wait for a command: those that lost their machine, and launches that were cut short."""
    for run in ledger.all():
        if run.was_taken_away:
            note(f"{run.run_id} lost its machine, and waits to go on: `cloudrun tend`")
    for run in ledger.interrupted():
        warn(
            f"the launch of {run.run_id} was cut short: `cloudrun launch {run.job_path}` goes on with it, "
            f"`cloudrun down {run.run_id}` ends it"
        )


@app.command(rich_help_panel=RESULTS, epilog="Example:\n\n  cloudrun down --all\n")
def down(
    run_ids: RunsArgument = None,
    every: Annotated[bool, typer.Option("--all", help="Every run that may cost money.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Leave results behind that are not home.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", envvar="CLOUDRUN_YES", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Stop the job, fetch what is not home, end the billing, and prove it."""
    from cloudrun.render.receipt_text import receipt_text
    from cloudrun.runs.console import Console
    from cloudrun.runs.ending import all_that_bill, end_each, named
    from cloudrun.state.home import home_folder
    from cloudrun.state.ledger import Ledger

    if every and run_ids:
        raise UsageError("`--all` and run ids together make no sense", hint="use one of them")
    ledger, console = Ledger(home_folder()), Console(say)
    targets = all_that_bill(ledger) if every else named(ledger, run_ids or [])
    if force and targets.runs and not yes:
        names = ", ".join(run.run_id for run in targets.runs)
        if not confirm(f"Leave what is not home of {names} behind?", default=False):
            note("nothing was changed")
            return ExitCode.FAILED
    receipts: list[Receipt] = []
    worst: int = ExitCode.DONE
    for ended in end_each(targets.runs, ledger, console, force=force):
        if ended.error is not None:
            worst = max(worst, show_failure(ended.error, f"{ended.run.run_id} could not be ended as it should"))
        if ended.receipt is not None:
            receipts.append(ended.receipt)
            if not as_json:
                answer(receipt_text(ended.receipt))
    left = _end_unaccounted(ledger, console, targets.machines, every=every, yes=yes)
    if as_json:
        answer_json(receipts)
    for problem in left:
        warn(problem)
    if left:
        return worst if worst != ExitCode.DONE else ExitCode.FAILED
    if every and worst == ExitCode.DONE:
        note("nothing is billing")
    return worst


def _end_unaccounted(
    ledger: Ledger, console: Console, machines: Sequence[Machine], *, every: bool, yes: bool
) -> tuple[str, ...]:
    """End machines that the ledger does not know; return what may still bill, and what could not be searched."""
    from cloudrun.runs.ending import Unaccounted, end_machines, unaccounted

    found = unaccounted(ledger) if every else Unaccounted(tuple(machines))
    for cloud in found.unlistable:
        note(f"{cloud} cannot be searched for machines that SkyPilot on this computer does not know")
    if every and found.machines and not _may_end(found.machines, yes=yes):
        return found.left_up()
    return (*found.problems, *end_machines(found.machines, ledger, console))


def _may_end(machines: Sequence[Machine], *, yes: bool) -> bool:
    """Return whether to end machines that may be another computer's; False where nobody is there to ask."""
    if yes:
        return True
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        return False
    listed = ", ".join(machine.name for machine in machines)
    return confirm(f"{listed}: not in this ledger, perhaps another computer's. End them, too?", default=False)


def warn_of_unaccounted(ledger: Ledger) -> None:
    """Warn, before money is spent, of machines that may be costing the user money already and are not in the ledger."""
    from cloudrun.runs.context import Context
    from cloudrun.runs.scan import scan
    from cloudrun.state.machines import orphans

    try:
        found = scan(Context.of(BILLED, ledger))
    except CloudrunError as err:
        warn(f"nobody could be asked for machines that the ledger does not know: {err.message}")
        return
    for machine in orphans(found, ledger.all()):
        warn(f"{machine.name} is up on {machine.infra} and not in this ledger; `{machine.stop_command}` ends it")


@app.command(rich_help_panel=MORE, epilog="Example:\n\n  cloudrun ssh\n")
def ssh(run_id: RunArgument = None, as_json: JsonOption = False) -> int:
    """Open a shell on the run's machine; with `--json`, only say by which command."""
    from cloudrun.state.home import home_folder
    from cloudrun.state.ledger import Ledger

    run = Ledger(home_folder()).find(run_id)
    if not CAPABILITIES[run.backend].is_remote:
        raise UsageError(
            f"`{run.run_id}` runs on this computer", hint=f"`cloudrun logs {run.run_id}` shows what it does"
        )
    if run.released_at is not None:
        raise UsageError(f"the machine of `{run.run_id}` is gone", hint="`cloudrun ps` lists those that are up")
    from cloudrun.remote.ssh import interactive_command

    command = interactive_command(run.machine_name)
    if as_json:
        answer_json({"run_id": run.run_id, "machine": run.machine_name, "command": command})
    else:
        os.execvp(command[0], command)
    return ExitCode.DONE


def _refreshed(run: Run, ledger: Ledger) -> Run:
    if run.phase.is_final and not run.may_bill:
        return run
    from cloudrun.errors import brief
    from cloudrun.runs.console import Console
    from cloudrun.runs.context import Context

    try:
        return looked_at(run, Context.of(run.backend, ledger, Console(say)))
    except Exception as err:  # noqa: BLE001 - one run that cannot be asked must not hide the others
        warn(f"{run.run_id} is shown as it was seen last; it could not be asked: {brief(err)}")
        return run
