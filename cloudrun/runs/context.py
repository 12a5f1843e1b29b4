"""The context of a use case: the ledger, the backend of its run, and the console on which it reports."""

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
    """The ledger, the backend and the console of one command; `of` opens the backend by its name."""

    ledger: Ledger
    backend: Backend
    console: Console = field(default_factory=Console)

    @staticmethod
    def of(name: str, ledger: Ledger, console: Console | None = None) -> Context:
        """Return a context with the backend of this name, `local` or `sky`; without a console it is silent."""
        return Context(ledger, open_backend(name, ledger.home), console or Console())

    @property
    def state_folder(self) -> Path:
        """The folder in which this computer keeps the ledger and what belongs to it."""
        return self.ledger.home

    def say(self, text: str) -> None:
        """Pass a line of news to the console."""
        self.console.say(text)

    def update(self, run: Run, step: Callable[[Run], Run]) -> Run:
        """Apply `step` to the run's record as it is now in the ledger; write the new record and return it."""
        return self.ledger.update(run.run_id, step)

    def current(self, run: Run) -> Run:
        """Return the run's record as it is now in the ledger."""
        return self.ledger.get(run.run_id)
