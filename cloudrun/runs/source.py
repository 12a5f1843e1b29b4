"""Find where a run's files can be read now: on its machine while that answers, else in its bucket."""

from __future__ import annotations

from cloudrun.errors import StoreError
from cloudrun.protocol.run_folder import LOG, ORDER, STATUS
from cloudrun.runs.last_word import read_result
from cloudrun.state.records import Result
from cloudrun.state.run import Run
from cloudrun.stores import Store, open_store

# Any of these files shows that the run's folder exists: the job may have removed or replaced one of them.
_THERE = (ORDER, LOG, STATUS)


def is_reachable(run: Run) -> bool:
    """Return whether the run's files can be read on its machine: quicker than asking the provider, and as telling."""
    if run.released_at is not None or run.run_uri is None:
        return False
    store = open_store(run.run_uri)
    try:
        return any(store.read(name, limit=1) is not None for name in _THERE)
    except StoreError:
        return False


def is_wiped(run: Run) -> bool:
    """Return whether the machine answers and the run's folder is gone from it: somebody removed that folder."""
    if run.released_at is not None or run.run_uri is None:
        return False
    try:
        return not open_store(run.run_uri).is_there()
    except StoreError:
        return False


def bucket_of(run: Run) -> Store | None:
    """Return the run's bucket as a store; None where the run has none."""
    return None if run.store_uri is None else open_store(run.store_uri, endpoint=run.endpoint)


def source_of(run: Run) -> Store | None:
    """Return the store that has the run's files now; None where the machine is gone and there is no bucket.

    Without a bucket the machine's store is returned without a probe.
    """
    if run.store_uri is None:
        return open_store(run.run_uri) if run.run_uri is not None and run.released_at is None else None
    if is_reachable(run):
        assert run.run_uri is not None
        return open_store(run.run_uri)
    return bucket_of(run)


def is_stored(run: Run) -> bool:
    """Return whether the bucket has all files of a run that has ended: the result is written there last.

    A result that cannot be read promises nothing. Raises StoreError.
    """
    bucket = bucket_of(run)
    return bucket is not None and isinstance(read_result(bucket), Result)
