"""Take a launch back that broke or was interrupted: its machine goes, once what earlier attempts made is home."""

from __future__ import annotations

from contextlib import suppress

from cloudrun.errors import BudgetUsed, Interrupted
from cloudrun.runs.context import Context
from cloudrun.runs.down import end_safely
from cloudrun.state.run import Run


def fail(run: Run, context: Context, err: Exception) -> None:
    """The launch broke: end what was rented before the error is shown."""
    context.say(f"the launch failed: {err}")
    by_budget = isinstance(err, BudgetUsed)
    with suppress(OSError):  # a disk that is full must not keep the machine up
        context.update(run, lambda run: run.failed(str(err), by_budget=by_budget))
    end_safely(context.current(run), context)


def undone(run: Run, context: Context, when: str) -> Interrupted:
    """Ctrl-C before the job could go on by itself."""
    context.say("interrupted: ending the machine; a second Ctrl-C leaves it up")
    end_safely(context.current(run), context)
    return Interrupted(
        f"interrupted {when}; `{run.run_id}` is ended and nothing is billing", hint="launch it again when you like"
    )


def stopped_meanwhile(run: Run) -> Interrupted:
    """Another command said `down` while the machine was being rented."""
    return Interrupted(
        f"`{run.run_id}` was stopped by another command while it was launched; nothing is billing",
        hint="launch it again when you like",
    )
