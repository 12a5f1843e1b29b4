"""Refresh a run as every command does that looks at it: a machine that is lost is ended, so that it bills no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudrun.cli.console import warn
from cloudrun.errors import CloudrunError

if TYPE_CHECKING:
    from cloudrun.runs.context import Context
    from cloudrun.state.run import Run


def looked_at(run: Run, context: Context, *, warns: bool = True) -> Run:
    """Return the run as it is now; a lost machine is ended.

    `warns`: warn of a machine whose end would lose results, which is left as it is.
    """
    from cloudrun.runs.refresh import refresh

    return without_lost(refresh(run, context), context, warns=warns)


def without_lost(run: Run, context: Context, *, warns: bool = True) -> Run:
    """End what is left of the run's machine where it is lost, warn where it cannot be ended; return the run."""
    from cloudrun.runs.down import ResultsNotHome, end_lost

    try:
        return end_lost(run, context)
    except ResultsNotHome as err:
        if warns:
            warn(f"{err.message}; {err.hint}")
        return context.current(run)
    except CloudrunError as err:  # the run is shown all the same
        warn(f"{err.message}; {err.hint}")
        return context.current(run)
