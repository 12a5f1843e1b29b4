"""A look at a run, as every command that looks takes it: what is lost is ended, so that it bills no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudrun.cli.console import note, warn
from cloudrun.errors import CloudrunError

if TYPE_CHECKING:
    from cloudrun.backends import Backend
    from cloudrun.ledger import Ledger
    from cloudrun.run import Run


def looked_at(run: Run, ledger: Ledger, backend: Backend, *, warns: bool = True) -> Run:
    """The run as it is now. `warns`: of a machine whose end would lose results, which is left as it is."""
    from cloudrun.runs.refresh import refresh

    return without_lost(refresh(run, ledger, backend), ledger, backend, warns=warns)


def without_lost(run: Run, ledger: Ledger, backend: Backend, *, warns: bool = True) -> Run:
    """End what is left of its machine where that is lost; a warning where it cannot be ended."""
    from cloudrun.runs.down import ResultsNotHome, end_lost

    try:
        return end_lost(run, ledger, backend, say=lambda text: note(f"cloudrun: {text}"))
    except ResultsNotHome as err:
        if warns:
            warn(f"{err.message}; {err.hint}")
        return ledger.get(run.run_id)
    except CloudrunError as err:  # whoever looks is shown the run all the same
        warn(f"{err.message}; {err.hint}")
        return ledger.get(run.run_id)
