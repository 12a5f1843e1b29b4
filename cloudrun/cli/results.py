"""Commands that read a run: `logs`, `fetch`, `cost`, `report`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloudrun.cli.app import app
from cloudrun.cli.console import Transfer, answer, answer_json, note, show_failure, warn
from cloudrun.cli.looking import looked_at, without_lost
from cloudrun.errors import ExitCode, Interrupted, RunNotFinished, StoreError, UsageError
from cloudrun.protocol.outputs import REPORT, below_out
from cloudrun.protocol.run_folder import LOG, STATUS
from cloudrun.protocol.words import OnFinish

if TYPE_CHECKING:
    from cloudrun.backends import Backend
    from cloudrun.ledger import Ledger
    from cloudrun.run import Run
    from cloudrun.stores import Entry, Store

_LONGEST_S = 10 * 365 * 86400.0

RunArgument = Annotated[str | None, typer.Argument(metavar="[RUN]", help="Run id or its start. [default: the newest]")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


@app.command(epilog="Example:\n\n  cloudrun logs --since 10m\n")
def logs(
    run_id: RunArgument = None,
    follow_it: Annotated[bool, typer.Option("--follow/--no-follow", "-f", help="Go on while the job runs.")] = True,
    tail: Annotated[int | None, typer.Option(min=0, metavar="N", help="Start with the last N lines.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Only what is newer than 30m, 2h, 1d.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Print a run's log, and follow it while the job runs."""
    from cloudrun.runs.follow import LogReader, follow
    from cloudrun.runs.log_start import start_offset

    moment = None if since is None else datetime.now(UTC) - parse_duration(since)
    run, ledger, backend = open_run(run_id, warns=False)
    store = _log_store(run)
    reader = LogReader(store, start_offset(store, tail=tail, since=moment, index_at_home=ledger.log_index(run.run_id)))

    def show(line: str) -> None:
        answer(json.dumps({"run_id": run.run_id, "line": line}) if as_json else line)

    if not follow_it or run.phase.is_final:
        for line in reader.lines(last=True):
            show(line)
    else:
        try:
            run = follow(run, ledger, backend, on_line=show, reader=reader)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; `{run.run_id}` goes on",
                hint=f"`cloudrun down {run.run_id}` stops it and ends the bill",
            ) from None
        run = without_lost(run, ledger, backend)
    return run.phase.exit_code if run.phase.is_final else ExitCode.DONE


@app.command(epilog="Example:\n\n  cloudrun fetch --best --to submission/\n\n  cloudrun fetch --watch\n")
def fetch(
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
    from cloudrun.runs.down import end_billing
    from cloudrun.runs.fetch import Listener, in_lines
    from cloudrun.runs.fetch import fetch as execute
    from cloudrun.runs.fetch_watch import fetch_until_it_ends

    if to is not None and not str(to).strip():
        raise UsageError("`--to` names no folder", hint="for example `--to submission/`; left out: runs/<run id>/")
    if watch and dry_run:
        raise UsageError("`--watch` and `--dry-run` together make no sense", hint="use one of them")
    run, ledger, backend = open_run(run_id, warns=False)
    _refuse_stopped(run)
    target = Path(to) if to is not None else None
    if dry_run:
        return _show_what_is_new(run, to=target, best_only=best, as_json=as_json)
    if watch:
        listener = in_lines(_say, _say_fetched)
        folder = fetch_until_it_ends(run, ledger, backend, to=target, best_only=best, listener=listener)
    else:
        with Transfer("fetched") as transfer:
            listener = Listener(_say_fetched, lambda at: transfer(at.bytes_done, at.bytes_total, at.files), _say)
            folder = execute(run, ledger, to=target, best_only=best, listener=listener)
    run = ledger.get(run.run_id)
    if run.home_complete and run.may_bill and run.phase.is_final and run.job["lifecycle"]["on_finish"] == OnFinish.DOWN:
        end_billing(run, ledger, backend, say=_say)
    if as_json:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        listed = [{"path": path.relative_to(folder).as_posix(), "size_bytes": path.stat().st_size} for path in files]
        answer_json({"run_id": run.run_id, "folder": str(folder), "complete": run.home_complete, "files": listed})
    else:
        answer(str(folder))
    return ExitCode.DONE


def _say(text: str) -> None:
    note(f"cloudrun: {text}")


def _say_fetched(entry: Entry) -> None:
    from cloudrun.units import size

    note(f"fetched {below_out(entry.key)} ({size(entry.size_bytes)})")


def _show_what_is_new(run: Run, *, to: Path | None, best_only: bool, as_json: bool) -> int:
    from cloudrun.render import table
    from cloudrun.runs.fetch import folder_for, what_is_new
    from cloudrun.units import size

    entries = what_is_new(run, to=to, best_only=best_only)
    total = sum(entry.size_bytes for entry in entries)
    rows = [[below_out(entry.key), size(entry.size_bytes)] for entry in entries]
    if as_json:
        listed = [{"path": below_out(entry.key), "size_bytes": entry.size_bytes} for entry in entries]
        answer_json({"run_id": run.run_id, "folder": str(folder_for(run, to)), "size_bytes": total, "files": listed})
    else:
        answer(table(["FILE", "SIZE"], [*rows, [f"{len(rows)} to fetch", size(total)]]))
    return ExitCode.DONE


@app.command(epilog="Example:\n\n  cloudrun cost --all --json\n")
def cost(
    run_ids: Annotated[list[str] | None, typer.Argument(metavar="[RUN...]", help="[default: the newest]")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every run, added up by month.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A line a run on stdout, for a spreadsheet.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Show the receipt: what was billed, for what, and what it bought."""
    from cloudrun.home import home_folder
    from cloudrun.ledger import Ledger
    from cloudrun.receipt import receipt
    from cloudrun.receipt_text import months_text, receipt_text, receipts_csv
    from cloudrun.records import now_utc
    from cloudrun.runs.fetch import metrics_at_home

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


@app.command(epilog="Example:\n\n  cloudrun report\n")
def report(run_id: RunArgument = None, as_json: JsonOption = False) -> int:
    """Write one self-contained HTML page about a run, and print where it is."""
    from cloudrun.runs.fetch import Listener
    from cloudrun.runs.fetch import fetch as bring_home

    run, ledger, _ = open_run(run_id)
    page = bring_home(run, ledger, to=None, listener=Listener(say=_say)) / REPORT
    if not page.is_file():
        raise StoreError(f"{page} could not be written", hint="the line above says why")
    if as_json:
        answer_json({"run_id": run.run_id, "report": str(page)})
    else:
        answer(str(page))
    return ExitCode.DONE


def parse_duration(text: str) -> timedelta:
    """`90s`, `30m`, `2h`, `1d`. Raises UsageError on anything else."""
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = text[:-1], text[-1:]
    if unit not in seconds or not number.replace(".", "", 1).isdigit():
        raise UsageError(f'"{text}" is not a length of time', hint="write 90s, 30m, 2h or 1d")
    total_s = float(number) * seconds[unit]
    if total_s > _LONGEST_S:
        raise UsageError(f'"{text}" is longer than any run', hint="write 90s, 30m, 2h or 1d")
    return timedelta(seconds=total_s)


def open_run(run_id: str | None, *, warns: bool = True) -> tuple[Run, Ledger, Backend]:
    """The run as it is now, the ledger, and the run's backend; `warns` as for `looked_at`."""
    from cloudrun.backends import open_backend
    from cloudrun.home import home_folder
    from cloudrun.ledger import Ledger

    home = home_folder()
    ledger = Ledger(home)
    run = ledger.find(run_id)
    backend = open_backend(run.backend, home)
    return looked_at(run, ledger, backend, warns=warns), ledger, backend


def _refuse_stopped(run: Run) -> None:
    """Raise where the run's files are on a machine that its provider has stopped, and nowhere else."""
    from cloudrun.runs.lost import disk_may_hold_results, stopped_words

    if run.may_bill and run.stopped_at is not None and disk_may_hold_results(run):
        message, hint = stopped_words(run)
        raise RunNotFinished(message, hint=hint)


def _log_store(run: Run) -> Store:
    """Where the log is now: on the machine; once that is gone, at home, or in the bucket where it is not all home."""
    from cloudrun.runs.source import is_wiped, source_of
    from cloudrun.stores.directory import DirectoryStore

    _refuse_stopped(run)
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
