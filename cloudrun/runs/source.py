"""Where a run's files can be read now: on its machine while that answers, else in its bucket."""

from __future__ import annotations

from cloudrun.errors import StoreError
from cloudrun.protocol.run_folder import LOG, ORDER, STATUS
from cloudrun.runs.last_word import read_result
from cloudrun.state.records import Result
from cloudrun.state.run import Run
from cloudrun.stores import Store, open_store

# Of a run's folder that is there: the job may have made something else of one of them.
_THERE = (ORDER, LOG, STATUS)


def is_reachable(run: Run) -> bool:
    """Whether the run's files can be read where it runs: quicker than asking the provider, and as telling."""
    if run.released_at is not None or run.run_uri is None:
        return False
    store = open_store(run.run_uri)
    try:
        return any(store.read(name, limit=1) is not None for name in _THERE)
    except StoreError:
        return False


def is_wiped(run: Run) -> bool:
    """Whether the machine answers and the run's folder is not there: somebody removed it, and nothing of it is left."""
    if run.released_at is not None or run.run_uri is None:
        return False
    try:
        return not open_store(run.run_uri).is_there()
    except StoreError:
        return False


def bucket_of(run: Run) -> Store | None:
    return None if run.store_uri is None else open_store(run.store_uri, endpoint=run.endpoint)


def source_of(run: Run) -> Store | None:
    """None where the machine is gone and there is no bucket. A machine without one is not asked first."""
    if run.store_uri is None:
        return open_store(run.run_uri) if run.run_uri is not None and run.released_at is None else None
    if is_reachable(run):
        assert run.run_uri is not None
        return open_store(run.run_uri)
    return bucket_of(run)


def is_stored(run: Run) -> bool:
    """Whether the bucket has all of a run that has ended: its result is written there last. Raises StoreError.

    A result that cannot be read promises nothing.
    """
    bucket = bucket_of(run)
    return bucket is not None and isinstance(read_result(bucket), Result)
