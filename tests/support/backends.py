"""Stand in for the backends that rent: one machine in one state, a market of several, and rows of a provider's list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cloudrun.backends import NotInTime, Terms
from cloudrun.errors import NoMachine
from cloudrun.job.plan import Plan
from cloudrun.state.machines import Machine
from cloudrun.state.records import JobState, Quote, now_utc
from cloudrun.state.run import Run


def a_machine(name: str, **changes: Any) -> Machine:
    """Return a machine as its provider lists it."""
    return Machine.model_validate({"name": name, "infra": "slurm", "handle": "h:7", "is_known_here": False, **changes})


@dataclass
class OneMachine:
    """A backend with one machine, in one state; `ended` has the runs whose machine it ended."""

    state: JobState
    told: datetime | None = None
    ended: list[str] = field(default_factory=list)

    def observe(self, _: Run) -> JobState:
        return self.state

    def diagnose(self, _: Run) -> str:
        return ""

    def ended_at(self, _: Run) -> datetime | None:
        return self.told

    def release(self, run: Run) -> datetime:
        self.ended.append(run.run_id)
        return now_utc()

    def billed_elsewhere(self, _: Run) -> None:
        return None


@dataclass
class Market:
    """A backend with some GPUs: each is there at a price, never gets ready, or is sold out."""

    sells: dict[str, Quote | None]  # None: such a machine is rented, and never gets ready
    up: set[str] = field(default_factory=set)
    asked: list[Terms] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None

    def identity(self) -> str:
        return "me"

    def rent(self, plan: Plan, _: object, terms: Terms) -> Quote:
        self.asked.append(terms)
        for gpu in plan.spec.gpu:
            if gpu not in self.sells:
                continue
            self.up.add(gpu)
            terms.on_seen(now_utc(), None)
            self.meanwhile()
            quote = self.sells[gpu]
            if quote is None:
                self.up.clear()
                raise NotInTime(f"{gpu} was not ready", hint="wait longer", gpu=gpu, ended_at=now_utc())
            return quote
        raise NoMachine("sold out", hint="another")

    def release(self, _: Run) -> datetime:
        self.up.clear()
        return now_utc()

    def ended_at(self, _: Run) -> datetime | None:
        return None
