"""Whether a machine that its provider has stopped may hold the only copy of something."""

from __future__ import annotations

from cloudrun.errors import StoreError
from cloudrun.run import Run
from cloudrun.runs.source import is_stored

# There the disk goes when the machine stops.
_WIPED = ("runpod",)


def disk_may_hold_results(run: Run) -> bool:
    """Whether its disk is worth what it costs. A spot machine that was taken is not given back."""
    price = run.price
    if run.run_uri is None or run.home_complete or (price is not None and (price.spot or price.infra in _WIPED)):
        return False
    try:
        return not is_stored(run)
    except StoreError:
        return True
