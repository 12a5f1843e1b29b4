"""Find runs whose bill is higher than their estimate. Pure; every command does, so that no bill is forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from cloudrun.billing.cost import cost_of
from cloudrun.state.run import Run


def overdue(runs: Iterable[Run], now: datetime) -> list[tuple[Run, float]]:
    """Return (run, estimated USD) of each run that still bills, and costs more by now than `estimated_usd`."""
    found = []
    for run in runs:
        estimated = estimated_usd(run)
        if run.may_bill and estimated is not None and float(cost_of(run, now).usd) > estimated:
            found.append((run, estimated))
    return found


def estimated_usd(run: Run) -> float | None:
    """Return the corrected estimate, else the upper end of the estimate; None where nothing costs or was estimated."""
    if run.price is None or not run.price.total_hourly_usd:
        return None
    if run.projected_usd is not None:
        return run.projected_usd
    if run.estimate is not None and run.estimate.high_usd is not None:
        return run.estimate.high_usd
    return None
