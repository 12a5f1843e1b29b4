"""Undo a launch that broke or was interrupted: end its machine, once the results of earlier attempts are home."""

from __future__ import annotations

from contextlib import suppress

from cloudrun.errors import BudgetUsed, Interrupted
from cloudrun.runs.context import Context
from cloudrun.runs.down import end_safely
from cloudrun.state.run import Run


def fail(run: Run, context: Context, err: Exception) -> None:
    """Record that the launch failed, and end its machine, before the caller raises `err`."""
    context.say(f"the launch failed: {err}")
    by_budget = isinstance(err, BudgetUsed)
    with suppress(OSError):  # a disk that is full must not keep the machine up
        context.update(run, lambda run: run.failed(str(err), by_budget=by_budget))
    end_safely(context.current(run), context)


def undone(run: Run, context: Context, when: str) -> Interrupted:
    """End the machine of a launch that Ctrl-C interrupted, and return the error to raise. `when`: at which point."""
    context.say("interrupted: ending the machine; a second Ctrl-C leaves it up")
    end_safely(context.current(run), context)
    return Interrupted(
        f"interrupted {when}; `{run.run_id}` is ended and nothing is billing", hint="launch it again when you like"
    )


def stopped_meanwhile(run: Run) -> Interrupted:
    """Return the error to raise where another command ended the run while its machine was being rented."""
    return Interrupted(
        f"`{run.run_id}` was stopped by another command while it was launched; nothing is billing",
        hint="launch it again when you like",
    )
