"""Read what a run's worker says of itself: its heartbeat and its result, even where these files hold something else."""

from __future__ import annotations

import time
from dataclasses import dataclass

from cloudrun.files.untrusted import LARGEST_DOCUMENT_BYTES, Unreadable
from cloudrun.protocol.run_folder import RESULT, STATUS
from cloudrun.protocol.timing import LAST_WORD_SILENCE_S
from cloudrun.protocol.words import EndReason
from cloudrun.state.received import progress_from, result_from
from cloudrun.state.records import Progress, Result, now_utc
from cloudrun.state.run import Run
from cloudrun.stores import Store

_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class BadResult:
    """A `result.json` that cannot be read: a job's command overwrote it, or its disk did."""

    why: str
    content: bytes


def read_result(store: Store) -> Result | BadResult | None:
    """Return the worker's result; a BadResult where it cannot be read, None while there is none.

    Raises StoreError where the store cannot be reached.
    """
    content = _read(store, RESULT)
    if content is None:
        return None
    try:
        return result_from(content)
    except Unreadable as err:
        return BadResult(str(err), content)


def read_progress(store: Store) -> Progress | None:
    """Return the worker's heartbeat; None where there is none, or where it cannot be read: the next one replaces it.

    Raises StoreError where the store cannot be reached.
    """
    content = _read(store, STATUS)
    try:
        return None if content is None else progress_from(content)
    except Unreadable:
        return None


def last_word(store: Store, run: Run, *, may_go_on: bool) -> Result | None:
    """Return the job's result; None while there is none; a failed end of unknown cause where it cannot be read.

    A job's command may overwrite `result.json` while it runs; its worker writes the file again when the job ends. So
    where the job `may_go_on`, its heartbeat is watched for some seconds: while it changes, the job has not ended.
    """
    found = read_result(store)
    if not isinstance(found, BadResult):
        return found
    if may_go_on and _beats(store):
        return None
    return _unknown_end(run, found, read_progress(store))


def _beats(store: Store) -> bool:
    """Return whether the heartbeat changes, or the result becomes readable, within some seconds.

    Bytes are compared, since the heartbeat of a newer worker may not be understood here.
    """
    before = _read(store, STATUS)
    until = time.monotonic() + LAST_WORD_SILENCE_S
    while time.monotonic() < until:
        time.sleep(_LOOK_EVERY_S)
        if not isinstance(read_result(store), BadResult) or _read(store, STATUS) != before:
            return True
    return False


def _unknown_end(run: Run, found: BadResult, progress: Progress | None) -> Result:
    began = progress.started_at if progress is not None else None
    return Result(
        reason=EndReason.FAILED,
        exit_code=1,
        message=f"how it ended is not known: its {RESULT} cannot be read ({found.why})",
        started_at=began or run.started_at or run.billed_from or run.created_at,
        finished_at=now_utc(),
        phases=progress.phases if progress is not None else (),
    )


def _read(store: Store, key: str) -> bytes | None:
    return store.read(key, limit=LARGEST_DOCUMENT_BYTES + 1)
