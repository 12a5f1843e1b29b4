"""Commands that read a run: `logs`, `fetch`, `cost`, `report`."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloudrun.cli import completion
from cloudrun.cli.app import app
from cloudrun.cli.console import Transfer, answer, answer_json, note, say, show_failure, warn
from cloudrun.cli.groups import LOOK, RESULTS
from cloudrun.cli.looking import looked_at, without_lost
from cloudrun.errors import CloudrunError, ExitCode, Interrupted, StoreError, UsageError
from cloudrun.protocol.outputs import REPORT, below_out

if TYPE_CHECKING:
    from cloudrun.runs.context import Context
    from cloudrun.runs.fetch import Fetched
    from cloudrun.state.run import Run
    from cloudrun.stores import Entry

_LONGEST_S = 10 * 365 * 86400.0

RunArgument = Annotated[
    str | None,
    typer.Argument(metavar="RUN", help="Run id or its start. [default: the newest]", autocompletion=completion.run_ids),
]
RunsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="RUN", help="Run ids. [default: the newest]", autocompletion=completion.run_ids),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


@app.command(rich_help_panel=LOOK, epilog="Example:\n\n  cloudrun logs --since 10m\n")
def logs(
    run_id: RunArgument = None,
    follow_it: Annotated[bool, typer.Option("--follow/--no-follow", "-f", help="Go on while the job runs.")] = True,
    tail: Annotated[int | None, typer.Option(min=0, metavar="N", help="Start with the last N lines.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only what is newer than 30m, 2h, 1d.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Print a run's log, and follow it while the job runs."""
    from cloudrun.runs.console import Console
    from cloudrun.runs.follow import shown
    from cloudrun.runs.logs import logs as execute
    from cloudrun.runs.tend import keep_going

    moment = None if since is None else datetime.now(UTC) - parse_duration(since)
    run, context = open_run(run_id, warns=False)

    def show(line: str) -> None:
        answer(json.dumps({"run_id": run.run_id, "line": line}) if as_json else line)

    try:
        ended = shown(execute(run, context, follow=follow_it, tail=tail, since=moment), show)
    except KeyboardInterrupt:
        if run.phase.is_final:
            raise
        raise Interrupted(
            f"interrupted; `{run.run_id}` goes on",
            hint=f"`cloudrun logs {run.run_id}` shows it again; `cloudrun down {run.run_id}` ends it and its bill",
        ) from None
    if ended.phase.is_final and not run.phase.is_final:
        ended = without_lost(ended, context)
        if follow_it and ended.was_taken_away:
            ended = keep_going(ended, context.ledger, Console(say, show))
    return ended.phase.exit_code if ended.phase.is_final else ExitCode.DONE


@app.command(
    rich_help_panel=RESULTS, epilog="Example:\n\n  cloudrun fetch --best --to submission/\n\n  cloudrun fetch --watch\n"
)
def fetch(  # noqa: PLR0913 - each is an option of the command
    run_id: RunArgument = None,
    to: Annotated[str | None, typer.Option(metavar="DIR", help="Folder to write. [default: runs/<run id>/]")] = None,
    best: Annotated[bool, typer.Option("--best", help="The best checkpoint alone.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on while the job runs: each new file as it comes.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be fetched, and stop.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Bring checkpoints, metrics, predictions, log, report and cost home; a finished run's machine then ends."""
    from cloudrun.runs.fetch import fetch as execute
    from cloudrun.runs.results import Listener, in_lines

    if to is not None and not str(to).strip():
        raise UsageError("`--to` names no folder", hint="for example `--to submission/`; left out: runs/<run id>/")
    if watch and dry_run:
        raise UsageError("`--watch` and `--dry-run` together make no sense", hint="use one of them")
    run, context = open_run(run_id, warns=False)
    target = Path(to) if to is not None else None
    if dry_run:
        return _show_what_is_new(run, to=target, best_only=best, as_json=as_json)
    with Transfer("fetched") as transfer:
        listener = (
            in_lines(say, _say_fetched_now)
            if watch
            else Listener(_say_fetched, lambda at: transfer(at.bytes_done, at.bytes_total, at.files), say)
        )
        found = execute(run, context, to=target, best_only=best, watch=watch, listener=listener)
    answer_json(_fetched_row(found)) if as_json else answer(str(found.folder))
    return ExitCode.DONE


def _fetched_row(found: Fetched) -> dict[str, Any]:
    folder = found.folder
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = [{"path": path.relative_to(folder).as_posix(), "size_bytes": path.stat().st_size} for path in files]
    return {
        "run_id": found.run.run_id,
        "folder": str(folder),
        "complete": found.run.home_complete,
        "files": listed,
    }


def _say_fetched(entry: Entry) -> None:
    from cloudrun.text.terminal import without_controls
    from cloudrun.text.units import size

    note(f"fetched {without_controls(below_out(entry.key))} ({size(entry.size_bytes)})")


def _say_fetched_now(entry: Entry) -> None:
    """With the time: a checkpoint comes again and again while the job runs."""
    from cloudrun.text.units import size

    note(f"{time.strftime('%H:%M:%S')} fetched {below_out(entry.key)} ({size(entry.size_bytes)})")


def _show_what_is_new(run: Run, *, to: Path | None, best_only: bool, as_json: bool) -> int:
    from cloudrun.render.tables import table
    from cloudrun.runs.results import folder_for, what_is_new
    from cloudrun.text.terminal import without_controls
    from cloudrun.text.units import size

    entries = what_is_new(run, to=to, best_only=best_only)
    total = sum(entry.size_bytes for entry in entries)
    rows = [[without_controls(below_out(entry.key)), size(entry.size_bytes)] for entry in entries]
    if as_json:
        listed = [{"path": below_out(entry.key), "size_bytes": entry.size_bytes} for entry in entries]
        answer_json({"run_id": run.run_id, "folder": str(folder_for(run, to)), "size_bytes": total, "files": listed})
    else:
        answer(table(["FILE", "SIZE"], [*rows, [f"{len(rows)} to fetch", size(total)]]))
    return ExitCode.DONE


@app.command(rich_help_panel=RESULTS, epilog="Example:\n\n  cloudrun cost --all --json\n")
def cost(
    run_ids: RunsArgument = None,
    every: Annotated[bool, typer.Option("--all", help="Every run, added up by month.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A line a run on stdout, for a spreadsheet.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Show the receipt: what was billed, for what, and what it bought."""
    from cloudrun.billing.receipt import receipt
    from cloudrun.render.receipt_text import months_text, receipt_text, receipts_csv
    from cloudrun.runs.results import metrics_at_home
    from cloudrun.state.home import home_folder
    from cloudrun.state.ledger import Ledger
    from cloudrun.state.records import now_utc

    if as_csv and as_json:
        raise UsageError("`--csv` and `--json` together make no sense", hint="use one of them")
    ledger = Ledger(home_folder())
    runs = ledger.all() if every else ledger.find_all(run_ids)
    receipts = []
    worst: int = ExitCode.DONE
    for run in runs:
        try:
            receipts.append(receipt(run, now_utc(), metrics_at_home(run)))
        except Exception as err:  # noqa: BLE001 - one run's files must not hide what the others cost
            worst = show_failure(err, f"the receipt of {run.run_id} cannot be made")
    for damaged in ledger.damaged() if every else ():
        warn(f"{damaged.message}; {damaged.hint}")
    if as_json:
        answer_json(receipts)
    elif as_csv:
        answer(receipts_csv(receipts))
    else:
        for one in receipts:
            answer(receipt_text(one))
        if every:
            answer(f"\n{months_text(receipts)}")
        if len(receipts) > 1:
            answer(f"{len(receipts)} runs  ${sum(one['cost_usd'] for one in receipts):.4f}")
    return worst


@app.command(
    rich_help_panel=RESULTS,
    epilog="Example:\n\n  cloudrun report --open\n\n  cloudrun report plants-1124-x7k2m plants-1125-q8w4z\n",
)
def report(
    run_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN...]", help="Several are compared. [default: the newest]")
    ] = None,
    opens: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Write one self-contained HTML page about a run, or comparing several, and print where it is."""
    opened = [open_run(run_id) for run_id in run_ids] if run_ids else [open_run(None)]
    runs = list({run.run_id: (run, context) for run, context in opened}.values())
    if len(runs) == 1:
        page = _page_of(*runs[0])
        answered: dict[str, Any] = {"run_id": runs[0][0].run_id, "report": str(page)}
    else:
        page = _comparison_of(runs)
        answered = {"run_ids": [run.run_id for run, _ in runs], "report": str(page)}
    answer_json(answered) if as_json else answer(str(page))
    if opens:
        _open_in_browser(page)
    return ExitCode.DONE


def _page_of(run: Run, context: Context) -> Path:
    from cloudrun.runs.accounts import write_accounts
    from cloudrun.runs.results import Listener, copy_home, has_page_later

    folder = copy_home(run, context.ledger, to=None, listener=Listener(say=say))
    now = context.ledger.get(run.run_id)
    if has_page_later(now):
        write_accounts(now, folder, say)
    page = folder / REPORT
    if not page.is_file():
        raise StoreError(f"{page} could not be written", hint="the line above says why")
    return page


def _comparison_of(runs: list[tuple[Run, Context]]) -> Path:
    """The page of what is at home of each run; one whose results cannot be had does not hide the others."""
    from cloudrun.runs.comparison import write_comparison

    for run, context in runs:
        try:
            _page_of(run, context)
        except CloudrunError as err:
            warn(f"{err.message}; {run.run_id} is compared as far as it is known")
    return write_comparison([context.ledger.get(run.run_id) for run, context in runs])


def _open_in_browser(page: Path) -> None:
    """Nothing fails where there is no browser: where the page is has been said."""
    import webbrowser

    if not webbrowser.open(page.absolute().as_uri()):
        warn(f"no browser could be started: open {page} yourself")


def parse_duration(text: str) -> timedelta:
    """Return the length of time of `90s`, `30m`, `2h` or `1d`. Raises UsageError for anything else."""
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = text[:-1], text[-1:]
    if unit not in seconds or not number.replace(".", "", 1).isdigit():
        raise UsageError(f'"{text}" is not a length of time', hint="write 90s, 30m, 2h or 1d")
    total_s = float(number) * seconds[unit]
    if total_s > _LONGEST_S:
        raise UsageError(f'"{text}" is longer than any run', hint="write 90s, 30m, 2h or 1d")
    return timedelta(seconds=total_s)


def open_run(run_id: str | None, *, warns: bool = True) -> tuple[Run, Context]:
    """Return the run as it is now (None: the newest) and its context; `warns` as for `looked_at`."""
    from cloudrun.runs.console import Console
    from cloudrun.runs.context import Context
    from cloudrun.state.home import home_folder
    from cloudrun.state.ledger import Ledger

    ledger = Ledger(home_folder())
    run = ledger.find(run_id)
    context = Context.of(run.backend, ledger, Console(say))
    return looked_at(run, context, warns=warns), context
