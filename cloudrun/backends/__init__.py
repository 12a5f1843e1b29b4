"""Where a plan can run. The run id is the only handle; every method takes it in a Run or a Plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cloudrun.catalog.infras import Capabilities
from cloudrun.errors import NoMachine
from cloudrun.job.keys import KeysSent
from cloudrun.state.machines import Machine, Scan
from cloudrun.state.records import BilledElsewhere, JobState, Quote
from cloudrun.state.run import Run

if TYPE_CHECKING:  # `ps` starts without it
    from cloudrun.job.plan import Plan
    from cloudrun.protocol.order import Order

Say = Callable[[str], None]
"""Takes one line about what is happening now."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a machine may cost and how long renting it may take.

    `agreed`: what was shown before; a dearer machine is not asked for. `within_s`: seconds until NotInTime; None: no
    end. `on_seen`: told, as soon as the provider lists the machine, since when it has it and what it bills an hour.
    """

    agreed: Quote | None = None
    within_s: float | None = None
    on_seen: Callable[[datetime, float | None], None] = lambda *_: None


class NotInTime(NoMachine):
    """No machine came in time; what may have been rented ended at `ended_at`. `gpu`: of which, where known."""

    def __init__(self, message: str, *, hint: str, gpu: str | None, ended_at: datetime) -> None:
        super().__init__(message, hint=hint)
        self.gpu = gpu
        self.ended_at = ended_at


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine that could be rented, at its price in USD an hour; `source` and `as_of` as in a Quote."""

    infra: str
    region: str | None
    machine: str
    gpu: str | None  # `A100:1`
    memory_gb: float | None  # of one card
    cpus: float | None
    host_memory_gb: float | None
    hourly_usd: float
    spot_usd: float | None
    source: str
    as_of: datetime
    nodes: int = 1  # such machines; the prices are of all of them together


class Backend(Protocol):
    """Starting and stopping; the files of a run are reached through its store."""

    capabilities: Capabilities

    def quote(self, plan: Plan) -> Quote | None:
        """The machine that `rent` would get and its price; None where only renting can tell.

        Raises NoMachine where it is known already that there is none.
        """
        ...

    def keys_sent(self, plan: Plan, quote: Quote | None) -> KeysSent | None:
        """The user's cloud keys that go along with the machine; None where none do, or only renting can tell."""
        ...

    def offers(self, plan: Plan, say: Say) -> list[Offer]:
        """What could be rented for `plan`, in any order. Raises NoMachine where no infra is ready."""
        ...

    def identity(self) -> str | None:
        """Whose machines `rent` gets: another's silence about them proves nothing. None where nothing is billed."""
        ...

    def rent(self, plan: Plan, say: Say, terms: Terms) -> Quote:
        """Get the bare machine, set to end itself, before anything is sent to it; at the provider's own price.

        Raises NoMachine when there is none, NotInTime when none came; then nothing is billing.
        """
        ...

    def start(self, plan: Plan, staged: Path, order: Order) -> str:
        """Send the staged code and start the worker; returns the run's URI. The job is alive from here on."""
        ...

    def observe(self, run: Run) -> JobState:
        """What is there of this run, asked now; UNKNOWN where nobody answers."""
        ...

    def ended_at(self, run: Run) -> datetime | None:
        """When the provider says that the run's machine stopped or ended; None where it keeps no record of it."""
        ...

    def diagnose(self, run: Run) -> str:
        """Why a job that left no result ended, as far as the backend can tell; empty where it can't."""
        ...

    def release(self, run: Run) -> datetime:
        """End the billing. Idempotent; the moment at which the machine was gone. Raises StillBilling."""
        ...

    def billed_elsewhere(self, run: Run) -> BilledElsewhere | None:
        """Somebody else's count of the run's machine, to check ours by; None where nobody counted."""
        ...

    def scan(self) -> Scan:
        """Every machine of ours that there is, asked of the providers now, whoever rented it."""
        ...

    def end_machine(self, machine: Machine) -> None:
        """As `release`, for a machine that the ledger does not know."""
        ...


def open_backend(name: str, home: Path) -> Backend:
    match name:
        case "local":
            from cloudrun.backends.local import LocalBackend

            return LocalBackend(home)
        case "sky":
            from cloudrun.backends.skypilot.backend import SkyBackend

            return SkyBackend(home)
        case _:
            raise ValueError(f"no backend {name}")
