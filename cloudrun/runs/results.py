"""Bring a run's files home, verified, in the layout that the contract describes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudrun.errors import RunNotFinished, StoreError
from cloudrun.files import atomic
from cloudrun.files.untrusted import LARGEST_RESULT_BYTES
from cloudrun.protocol.checkpoints import bests, is_best
from cloudrun.protocol.metrics import MetricsRow, metrics_at
from cloudrun.protocol.outputs import PROGRESS, UNREADABLE_RESULT, below_out
from cloudrun.protocol.run_folder import HOME, LOG, LOG_INDEX, OUT, RESULT, STATUS
from cloudrun.protocol.words import OnFinish
from cloudrun.runs.accounts import replace_file, write_accounts
from cloudrun.runs.fetch_lock import fetching
from cloudrun.runs.home_names import is_renamed, name_at_home
from cloudrun.runs.last_word import BadResult, read_result
from cloudrun.runs.lost import refuse_stopped
from cloudrun.runs.source import is_reachable, is_wiped, source_of
from cloudrun.state.ledger import Ledger
from cloudrun.state.received import summary_at
from cloudrun.state.records import Phase, Result, now_utc
from cloudrun.state.run import Run
from cloudrun.stores import Entry, Store, open_store
from cloudrun.stores.download import OnFile, OnProgress, Progress, make_way, missing, pull
from cloudrun.text.pace import Pace

_OWN_USE = (PROGRESS,)  # heartbeat files: of no use at home
_PIECE_BYTES = 64_000_000  # read at once of the log, which may have gigabytes
_NAMED = 10  # the most files of one kind that messages name; the rest is counted


def default_folder(run: Run) -> Path:
    """Return the folder for the run's results where the user names none."""
    return Path(run.folder) if run.folder else Path("runs").absolute() / run.run_id


@dataclass(frozen=True, slots=True)
class Listener:
    """Functions that take the news of a fetch: each file that has come, the progress, and a line of text."""

    on_file: OnFile = lambda _: None
    on_progress: OnProgress = lambda _: None
    say: Callable[[str], None] = lambda _: None


def in_lines(say: Callable[[str], None], on_file: OnFile) -> Listener:
    """Return a listener that passes each file to `on_file`, and every half minute a line of progress to `say`."""
    pace = Pace()

    def on_progress(progress: Progress) -> None:
        nonlocal pace
        if progress.files_done == progress.files_total:
            pace = Pace()  # the next transfer counts anew
        elif pace.is_due(progress.bytes_done):
            say(f"fetching: {pace.text(progress.bytes_done, progress.bytes_total, files=progress.files)}")

    return Listener(on_file, on_progress, say)


def copy_home(
    run: Run, ledger: Ledger, *, to: Path | None, best_only: bool = False, listener: Listener | None = None
) -> Path:
    """Copy the run's files home as they are now, and return the folder. A run that has ended is marked as home.

    `run` is the record of the last look. A file that cannot be understood comes home as it is, and a message names it.
    report.html is left to the end of the bill where `has_page_later`.
    Raises RunNotFinished where there is nothing yet, StoreError where a file does not arrive whole.
    """
    folder = folder_for(run, to)
    try:
        return _bring(run, ledger, folder, best_only=best_only, listener=listener or Listener())
    except OSError as err:
        if err.filename is not None and Path(os.fsdecode(err.filename)).is_relative_to(ledger.home):
            raise StoreError(
                f"cannot write {os.fsdecode(err.filename)}, of cloudrun's own folder: {err.strerror}",
                hint=f"make room there (`df {ledger.home}`), then run the same command again; the results are safe",
            ) from err
        raise StoreError(
            f"cannot write the results to {folder}: {err.strerror}",
            hint=f"name another folder: `cloudrun fetch {run.run_id} --to DIR`; is there room on the disk?",
        ) from err


def has_page_later(run: Run) -> bool:
    """Return whether the run's machine still bills and is ended next: report.html is made after that, at no cost."""
    return run.may_bill and run.phase.is_final and run.on_finish is OnFinish.DOWN


def what_is_new(run: Run, *, to: Path | None, best_only: bool = False) -> list[Entry]:
    """Return the files that `fetch` would copy now. Raises RunNotFinished where there is nothing yet."""
    refuse_stopped(run)
    store = _store_of(run)
    if store is None:
        home = Path(run.folder) if run.folder else None
        if home is None or not home.is_dir():
            raise _nothing_yet(run, "nothing to fetch")
        return []
    entries = _entries(run, store, best_only=best_only)
    return [entry for entry, _ in missing(entries, name_at_home, folder_for(run, to))]


def folder_for(run: Run, to: Path | None) -> Path:
    """Return the folder for the run's results: `to`, else the run's own."""
    return to.absolute() if to is not None else default_folder(run)


def _bring(run: Run, ledger: Ledger, folder: Path, *, best_only: bool, listener: Listener) -> Path:
    store = _store_of(run)
    if store is None:
        return _from_home(run, folder, best_only=best_only, say=listener.say)
    word = read_result(store)  # read first: files that are listed after it are final
    # A result that cannot be read may be the job's own file: it counts only for a run that is known to have ended.
    ended = isinstance(word, Result) or (isinstance(word, BadResult) and run.phase.is_final)
    if word is None and run.store_uri is None and is_wiped(run):
        raise _nothing_is_left(run)
    entries = _entries(run, store, best_only=best_only)
    folder.mkdir(parents=True, exist_ok=True)
    with fetching(folder, home=ledger.home, say=listener.say) as beat:
        began = now_utc()

        def on_progress(progress: Progress) -> None:
            beat()
            listener.on_progress(progress)

        pull(
            store,
            entries,
            name_at_home,
            folder,
            listener.on_file,
            on_progress=on_progress,
            on_damage=lambda entry: listener.say(
                f"{name_at_home(entry.key)} arrived damaged (sha256 differs): fetching it again"
            ),
        )
        if best_only:
            return folder
        _copy_log(store, folder)
        if ended:
            _tell_oddities(store, entries, folder, word, listener.say)
        index = store.read(LOG_INDEX, limit=LARGEST_RESULT_BYTES)
        if index is not None:
            ledger.keep_log_index(run.run_id, index)
        attempt = run.attempt
        run = ledger.get(run.run_id)  # another fetch may have been quicker
        if run.attempt != attempt:
            raise StoreError(
                f"`{run.run_id}` was resumed while it was fetched", hint=f"`cloudrun logs {run.run_id}` follows it"
            )
        is_home = folder == default_folder(run) or not default_folder(run).is_dir()
        if is_home:
            run = ledger.update(run.run_id, lambda run: run.fetched(str(folder), is_complete=ended))
        if ended and is_home and is_reachable(run):  # a copy elsewhere is no reason to end the machine
            _tell_the_machine(run, listener.say)
        if ended and is_home:
            now = now_utc()
            run = ledger.update(run.run_id, lambda run: run.came_home(began_at=began, now=now))
        write_accounts(run, folder, listener.say, with_page=not (ended and is_home and has_page_later(run)))
    return folder


def _tell_oddities(
    store: Store, entries: Sequence[Entry], folder: Path, word: Result | BadResult | None, say: Callable[[str], None]
) -> None:
    """Report files that did not come, have another name at home, or cannot be read."""
    if isinstance(word, BadResult):
        replace_file(folder / UNREADABLE_RESULT, word.content, folder)
        say(f"the run's {RESULT} cannot be read ({word.why}); it is kept as {folder / UNREADABLE_RESULT}")
    renamed = [entry.key for entry in entries if is_renamed(entry.key)]
    for key in renamed[:_NAMED]:
        say(f"{below_out(key)[:100]} is at home as {name_at_home(key)}: its own name is none that works here")
    left_out = [below_out(one) for one in store.left_out(OUT)]
    for one in left_out[:_NAMED]:
        say(f"left out: {one}")
    unnamed = len(renamed[_NAMED:]) + len(left_out[_NAMED:])
    if unnamed:
        say(f"and {unnamed} more that are renamed or left out")
    for trouble in (summary_at(folder)[1], metrics_at(folder)[1]):
        if trouble:
            say(trouble)


def _tell_the_machine(run: Run, say: Callable[[str], None]) -> None:
    """Tell the machine that the results are home; where it cannot be reached, that is only reported."""
    assert run.run_uri is not None
    try:
        open_store(run.run_uri).put(HOME, b"")
    except StoreError as err:
        say(f"the machine of {run.run_id} could not be told that the results are home: {err.message}")


def _store_of(run: Run) -> Store | None:
    """Return the store that may have more than the folder at home; None where no store has."""
    store = None if _is_home(run) else source_of(run)
    return None if store is None or (run.store_uri is not None and not _holds(store)) else store


def _entries(run: Run, store: Store, *, best_only: bool) -> list[Entry]:
    entries = [entry for entry in store.entries(OUT) if name_at_home(entry.key) not in _OWN_USE]
    if best_only:
        entries = [entry for entry in entries if is_best(name_at_home(entry.key))]
        if not entries:
            raise _nothing_yet(run, "no best checkpoint")
    return entries


def metrics_at_home(run: Run) -> list[MetricsRow]:
    """Return the rows of the `metrics.jsonl` that was fetched of a run; none where there is no such file."""
    return metrics_at(Path(run.folder))[0] if run.folder else []


def _from_home(run: Run, folder: Path, *, best_only: bool, say: Callable[[str], None]) -> Path:
    """Take the results of a run whose machine is gone from the folder at home; copy them where `folder` is another."""
    home = None if run.folder is None else Path(run.folder)
    if home is None or not (home.is_dir() or run.home_complete):
        raise _nothing_yet(run, "nothing to fetch")
    if not home.is_dir():
        raise StoreError(
            f"the results of `{run.run_id}` were fetched to {home}, which is not there any more",
            hint="the machine is gone, so there is no other copy; look where that folder was moved to",
        )
    if best_only:
        found = bests(home)
        if not found:
            raise _nothing_yet(run, "no best checkpoint")
        for best in found if folder != home else ():
            copy = folder / best.relative_to(home)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(best, copy)
    elif folder != home:
        shutil.copytree(home, folder, dirs_exist_ok=True)
    if not best_only:
        write_accounts(run, folder, say)
    return folder


def _is_home(run: Run) -> bool:
    """Return whether all results are home, and no machine may have more.

    False for a folder at home that was moved away: its files can come from the bucket again.
    """
    gone = run.released_at is not None or run.run_uri is None
    return gone and run.home_complete and run.folder is not None and Path(run.folder).is_dir()


def _holds(store: Store) -> bool:
    """Return whether the bucket has anything of the run: a run whose machine never came up has left nothing there."""
    return store.read(STATUS, limit=1) is not None


def _copy_log(store: Store, folder: Path) -> None:
    """Copy the log as it stands, without comparing a hash: it grows while it is read.

    Where the machine goes away meanwhile, an earlier copy at home stays as it is.
    """
    partial = folder / f"{LOG}{atomic.PARTIAL}"
    make_way(partial, folder)
    make_way(folder / LOG, folder)
    content = store.read(LOG, limit=_PIECE_BYTES)
    if content is None:
        return
    with partial.open("wb") as copy:
        while content:
            copy.write(content)
            is_all = len(content) < _PIECE_BYTES
            content = None if is_all else store.read(LOG, offset=copy.tell(), limit=_PIECE_BYTES)
    atomic.settle(partial, folder / LOG)


def _nothing_is_left(run: Run) -> StoreError:
    home = default_folder(run)
    earlier = f"; what was fetched before is in {home}" if home.is_dir() else ""
    return StoreError(
        f"nothing of `{run.run_id}` is left on its machine: its folder was removed there{earlier}",
        hint=f"`cloudrun down {run.run_id}` ends its bill",
    )


def _nothing_yet(run: Run, what: str) -> RunNotFinished:
    if run.phase in (Phase.LAUNCHING, Phase.PREPARING):
        why, hint = f"it is {run.phase.value}", f"wait for the first epoch: `cloudrun logs {run.run_id}`"
    elif not run.phase.is_final:
        why, hint = "the first epoch is not over", f"`cloudrun logs {run.run_id}` shows how far it is"
    else:
        why = f"it {run.phase.value}" + (f": {run.message}" if run.message else "")
        hint = f"`cloudrun logs {run.run_id}` may say more"
    return RunNotFinished(f"`{run.run_id}` has {what}: {why}", hint=hint)
