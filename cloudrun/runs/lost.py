"""Decide whether a machine that its provider has stopped may hold the only copy of results."""

from __future__ import annotations

from cloudrun.billing.cost import stopped_disk_hourly_usd
from cloudrun.catalog.disk_price import DISK_GOES_WHEN_STOPPED
from cloudrun.errors import RunNotFinished, StoreError
from cloudrun.runs.source import is_stored
from cloudrun.state.run import Run


def disk_may_hold_results(run: Run) -> bool:
    """Return whether the disk of a stopped machine may hold results that are nowhere else, and can be got back.

    A spot machine that its provider has taken is not given back.
    """
    price = run.price
    if (
        run.run_uri is None
        or run.home_complete
        or (price is not None and (price.spot or price.infra in DISK_GOES_WHEN_STOPPED))
    ):
        return False
    try:
        return not is_stored(run)
    except StoreError:
        return True


def stopped_words(run: Run) -> tuple[str, str]:
    """Return the message about a stopped machine that may hold results, and the hint with the two ways out."""
    a_day = stopped_disk_hourly_usd(run) * 24
    price = f"about ${a_day:.2f} a day" if a_day else "at a price that is not known here"
    what = (
        f"the machine of `{run.run_id}` is stopped: its GPU bills no more, its disk does ({price}), and may hold"
        " results that are not home"
    )
    ways_out = (
        f"start it again to fetch them: `sky start -i 30 --down {run.machine_name}`, then `cloudrun fetch {run.run_id}`"
        f" and `cloudrun down {run.run_id}` (else it ends itself after 30 idle minutes);"
        f" or leave them behind: `cloudrun down {run.run_id} --force`"
    )
    return what, ways_out


def refuse_stopped(run: Run) -> None:
    """Raise RunNotFinished where the run's files are on a machine that its provider has stopped, and nowhere else."""
    if run.may_bill and run.stopped_at is not None and disk_may_hold_results(run):
        message, hint = stopped_words(run)
        raise RunNotFinished(message, hint=hint)
