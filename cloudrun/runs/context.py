"""What each use case works with: the ledger, the backend of its run, and where it speaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cloudrun.backends import Backend, open_backend
from cloudrun.runs.console import Console
from cloudrun.state.ledger import Ledger
from cloudrun.state.run import Run


@dataclass(frozen=True, slots=True)
class Context:
    """One command's; `of` opens the backend that a run was given to."""

    ledger: Ledger
    backend: Backend
    console: Console = field(default_factory=Console)

    @staticmethod
    def of(name: str, ledger: Ledger, console: Console | None = None) -> Context:
        """With the backend of this name, `local` or `sky`."""
        return Context(ledger, open_backend(name, ledger.home), console or Console())

    @property
    def state_folder(self) -> Path:
        """Where this computer keeps the ledger and what belongs to it."""
        return self.ledger.home

    def say(self, text: str) -> None:
        """Tell a line of news."""
        self.console.say(text)

    def update(self, run: Run, step: Callable[[Run], Run]) -> Run:
        """Take the run's record a step on, as it is now in the ledger, and return it."""
        return self.ledger.update(run.run_id, step)

    def current(self, run: Run) -> Run:
        """Return the run's record as it is now in the ledger."""
        return self.ledger.get(run.run_id)
