"""What a run's worker says of itself: its heartbeat and its last word, whatever lies under their names."""

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
    """Return the worker's last word; None while there is none. Raises StoreError where the store cannot be reached."""
    content = _read(store, RESULT)
    if content is None:
        return None
    try:
        return result_from(content)
    except Unreadable as err:
        return BadResult(str(err), content)


def read_progress(store: Store) -> Progress | None:
    """Return the heartbeat; None where there is none, or where it cannot be read: the next one is written anew."""
    content = _read(store, STATUS)
    try:
        return None if content is None else progress_from(content)
    except Unreadable:
        return None


def last_word(store: Store, run: Run, *, may_go_on: bool) -> Result | None:
    """Return the job's result; where it cannot be read, an end of which nobody knows how it was.

    The worker of a job that overwrote the file writes it again when the job ends: while the job `may_go_on`, its
    heartbeat is listened to for some seconds, and a job whose heart beats has not ended.
    """
    found = read_result(store)
    if not isinstance(found, BadResult):
        return found
    if may_go_on and _beats(store):
        return None
    return _unknown_end(run, found, read_progress(store))


def _beats(store: Store) -> bool:
    """Whether the heartbeat changes: by its bytes, since a newer worker's may be more than can be understood."""
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
