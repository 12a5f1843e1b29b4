"""The protocol of a backend, where a plan can run. The run id is the only handle: each Run and Plan has it."""

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

if TYPE_CHECKING:  # `ps` starts faster without these
    from cloudrun.job.plan import Plan
    from cloudrun.protocol.order import Order

Say = Callable[[str], None]
"""Takes one line of news."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of renting: the price that a machine may have, and the time that renting it may take.

    `agreed`: the quote that was shown before; a dearer machine is not asked for. `within_s`: seconds until NotInTime;
    None: no limit. `on_seen`: called as soon as the provider lists the machine, with its start by the provider's clock
    and its price in USD an hour, None where the provider lists none.
    """

    agreed: Quote | None = None
    within_s: float | None = None
    on_seen: Callable[[datetime, float | None], None] = lambda *_: None


class NoCloudEnabled(NoMachine):
    """No cloud is enabled, or not the one that was asked for: SkyPilot knows no price."""


class NotInTime(NoMachine):
    """No machine was up in time. One that may have been rented ended at `ended_at`; `gpu`: its GPU, where known."""

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
    nodes: int = 1  # number of such machines; the prices are of all of them together


class Backend(Protocol):
    """Rents machines, starts runs on them and ends them. The files of a run are read and written through its store."""

    capabilities: Capabilities

    def quote(self, plan: Plan) -> Quote | None:
        """Return the machine that `rent` would get, with its price; None where only renting can tell.

        Raises NoMachine where it is known before that there is none.
        """
        ...

    def keys_sent(self, plan: Plan, quote: Quote | None) -> KeysSent | None:
        """Return the user's cloud keys that a machine would get; None where it gets none, or only renting can tell."""
        ...

    def offers(self, plan: Plan, say: Say) -> list[Offer]:
        """Return the machines that could be rented for `plan`, in any order. Raises NoMachine where no infra is ready.

        `say` gets a line for each infra that is left out.
        """
        ...

    def identity(self) -> str | None:
        """Return who rents here, such as SkyPilot's user and server; None where nothing is billed.

        That another such user does not know a machine proves nothing about it.
        """
        ...

    def rent(self, plan: Plan, say: Say, terms: Terms) -> Quote:
        """Rent the bare machine, and return it at the provider's own price; its own end is armed before it gets files.

        Raises NoMachine where there is none, NotInTime where none is up in time; then nothing bills.
        """
        ...

    def start(self, plan: Plan, staged: Path, order: Order) -> str:
        """Send the staged files, start the worker, and return the URI of the run's folder; the job then lives."""
        ...

    def observe(self, run: Run) -> JobState:
        """Return the present state of the run's machine and job, asked now; UNKNOWN where nobody answers."""
        ...

    def ended_at(self, run: Run) -> datetime | None:
        """Return when the run's machine stopped or ended by its provider's record; None where there is no record."""
        ...

    def diagnose(self, run: Run) -> str:
        """Return why a job that left no result ended; empty where the backend cannot tell."""
        ...

    def release(self, run: Run) -> datetime:
        """End the run's machine, and return the moment at which it was gone. Idempotent.

        Raises StillBilling where the end cannot be proven.
        """
        ...

    def billed_elsewhere(self, run: Run) -> BilledElsewhere | None:
        """Return SkyPilot's count of the run's machine, to check ours by; None where nobody else counted."""
        ...

    def scan(self) -> Scan:
        """Ask the providers now for every machine of ours, whichever computer rented it."""
        ...

    def end_machine(self, machine: Machine) -> None:
        """End a machine that the ledger does not know. Raises StillBilling where its end cannot be proven."""
        ...


def open_backend(name: str, home: Path) -> Backend:
    """Return the backend of this name, as `catalog.infras` has them. Raises ValueError for others.

    `home`: the ledger's folder.
    """
    match name:
        case "local":
            from cloudrun.backends.local import LocalBackend

            return LocalBackend(home)
        case "ssh":
            from cloudrun.backends.ssh.backend import SshBackend

            return SshBackend()
        case "sky":
            from cloudrun.backends.skypilot.backend import SkyBackend

            return SkyBackend(home)
        case _:
            raise ValueError(f"no backend {name}")
