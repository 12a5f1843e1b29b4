"""Take a launch back that broke or was interrupted: its machine goes, once what earlier shifts made is home."""

from __future__ import annotations

from contextlib import suppress

from cloudrun.backends import Backend
from cloudrun.errors import BudgetUsed, Interrupted
from cloudrun.ledger import Ledger
from cloudrun.run import Run
from cloudrun.runs.console import Console
from cloudrun.runs.down import end_safely


def fail(run: Run, ledger: Ledger, backend: Backend, console: Console, err: Exception) -> None:
    """The launch broke: end what was rented before the error is shown."""
    console.say(f"the launch failed: {err}")
    by_budget = isinstance(err, BudgetUsed)
    with suppress(OSError):  # a disk that is full must not keep the machine up
        ledger.update(run.run_id, lambda run: run.failed(str(err), by_budget=by_budget))
    end_safely(ledger.get(run.run_id), ledger, backend, console.say)


def undone(run: Run, ledger: Ledger, backend: Backend, console: Console, when: str) -> Interrupted:
    """Ctrl-C before the job could go on by itself."""
    console.say("interrupted: ending the machine; a second Ctrl-C leaves it up")
    end_safely(ledger.get(run.run_id), ledger, backend, console.say)
    return Interrupted(
        f"interrupted {when}; `{run.run_id}` is ended and nothing is billing", hint="launch it again when you like"
    )


def stopped_meanwhile(run: Run) -> Interrupted:
    """Another command said `down` while the machine was being rented."""
    return Interrupted(
        f"`{run.run_id}` was stopped by another command while it was launched; nothing is billing",
        hint="launch it again when you like",
    )
