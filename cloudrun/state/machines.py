"""Machines that cloudrun rented, as their providers list them, whether the ledger knows them or not. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from cloudrun.state.run import MACHINE_PREFIX, Run

# What SkyPilot adds to a machine's name: a hash of its user, and on some clouds the node's part in the cluster.
_ADDED = re.compile(r"(-[0-9a-f]{8})?(-head|-worker\d*)?$")
_PART = re.compile(r"-(head|worker\d*)$")
_OWNED = re.compile(r".*-[0-9a-f]{8}(-head|-worker\d*)?$")


class Machine(BaseModel):
    """One machine that may be costing money. `name` is the provider's; prices in USD, None where unknown."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    infra: str
    handle: str  # the name by which it can be ended: SkyPilot's, or the provider's id
    # Whether this computer's backend rented it, and so knows it. The alias is for a scan that an older version kept.
    is_known_here: bool = Field(validation_alias=AliasChoices("is_known_here", "known_to_sky"))
    gpu: str | None = None
    hourly_usd: float | None = None
    up_since: datetime | None = None  # by its provider's clock
    stopped: str | None = None  # its provider's word for a machine that is kept but does not run; None: it is up
    ended_at: datetime | None = None  # when it was stopped or ended, by its provider's clock

    @property
    def cluster(self) -> str:
        """The name by which SkyPilot asked for it, without the machine's part in the cluster."""
        return _PART.sub("", self.name)

    @property
    def run_id(self) -> str:
        """The id of the run that the machine was rented for, as far as its name tells."""
        name = self.name if not _OWNED.match(self.name) else _ADDED.sub("", self.name, count=1)
        return name.removeprefix(MACHINE_PREFIX)

    @property
    def stop_command(self) -> str:
        """The command that ends the machine."""
        return f"cloudrun down {self.name}"

    def cost_usd(self, now: datetime) -> float | None:
        """Return the USD that the machine has cost since it came up; None where its price or start is unknown."""
        if self.hourly_usd is None or self.up_since is None:
            return None
        return round(max((now - self.up_since).total_seconds(), 0.0) / 3600 * self.hourly_usd, 4)


class Scan(BaseModel):
    """The machines that providers listed at the time `at`.

    `unasked`: providers or machines without an answer, and why; `unlistable`: clouds whose machines cannot be listed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: datetime
    machines: tuple[Machine, ...] = ()
    unasked: tuple[str, ...] = ()
    unlistable: tuple[str, ...] = ()


def orphans(scan: Scan, runs: Iterable[Run]) -> list[Machine]:
    """Return the orphaned machines of a scan: those that no run of the ledger is billed for.

    They are of another computer, of a lost ledger, or of an interrupted launch. A machine whose end was proven after
    the scan is left out: the scan is only older.
    """
    accounted = {run.run_id for run in runs if run.may_bill or _ended_after(run, scan)}
    return [machine for machine in scan.machines if machine.run_id not in accounted]


def _ended_after(run: Run, scan: Scan) -> bool:
    return run.end_is_proven and run.released_at is not None and run.released_at >= scan.at


def find_machines(machines: Sequence[Machine], text: str) -> list[Machine]:
    """Return the machines with this name, handle or run id: for a run on several machines, all of them."""
    exactly = [machine for machine in machines if text == machine.handle]
    return exactly or [
        machine for machine in machines if text in (machine.name, machine.run_id, f"{MACHINE_PREFIX}{machine.run_id}")
    ]
