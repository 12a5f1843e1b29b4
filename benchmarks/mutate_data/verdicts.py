"""What can come of one input."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from random import Random


class Outcome(StrEnum):
    """How both readers took an input. SEEN_LATER: damage that only the whole content shows, found by the second."""

    READ = "read"
    REFUSED = "refused"
    SEEN_LATER = "seen later"


class Disagreement(AssertionError):
    """The two readers differ about one input."""


Try = Callable[[Random, Path], Outcome]
"""Make an input in an empty folder, and give it to both readers. Raises Disagreement, or what a reader let through."""


def agree(check: str | None, trainer: str | None, what: str) -> Outcome:
    """Return the outcome of two readers, each with its reason to refuse or None. Raises Disagreement."""
    if (check is None) != (trainer is None):
        taken, refused = ("the trainer", "check") if check is not None else ("check", "the trainer")
        raise Disagreement(f"{taken} takes what {refused} refuses: {what}: {check or trainer}")
    for reason in (check, trainer):
        if reason is not None and not reason.strip():
            raise Disagreement(f"refused without a reason: {what}")
    return Outcome.READ if check is None else Outcome.REFUSED
