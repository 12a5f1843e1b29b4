"""The grounds on which scenarios rent machines: a Slurm cluster, or an account of AWS or RunPod, on this computer."""

from __future__ import annotations

import tempfile
import time
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from tests.clouds import box
from tests.clouds.jobs import GPUS
from tests.sky import slurm_cluster
from tests.support.seaweedfs import SeaweedFS

# How long a process is waited for: the watchdog works before its SkyPilot job does, since Ray takes its time.
_BEGINS_S = 120.0


class Promise(StrEnum):
    """A way in which a machine is promised to end; each ground has its own seconds for each way."""

    COMMAND = "an attached command"
    CRASH = "an attached command, once it has seen that the job ended"
    WATCHDOG = "the watchdog, once the results are in the bucket"
    STORE = "the watchdog, once the bucket is back"
    STORE_AWAY = "an attached command, which brings home what the bucket did not get"
    TIMER = "SkyPilot's idle timer"
    TIMER_AFTER_RENTING = "SkyPilot's idle timer, on a machine that is still being made"
    BUDGET = "the watchdog, at the end of the budget"
    NOTHING = "nothing was rented"
    ENDED = "an earlier command has ended it"


_ON_SLURM: dict[Promise, float] = {
    Promise.COMMAND: 60.0,
    Promise.CRASH: 90.0,
    Promise.WATCHDOG: 120.0,
    Promise.STORE: 240.0,
    Promise.STORE_AWAY: 120.0,
    Promise.TIMER: 240.0,
    Promise.TIMER_AFTER_RENTING: 240.0,
    Promise.BUDGET: 60.0,
    Promise.NOTHING: 0.0,
    Promise.ENDED: 5.0,
}
# skylet looks once a minute, and the provider takes some seconds to end a machine: 75 s where skylet ends it.
_ON_A_CLOUD = _ON_SLURM | {
    Promise.WATCHDOG: 120.0 + 75,
    Promise.STORE: 240.0 + 75,
    Promise.TIMER_AFTER_RENTING: 240.0 + 120,
    Promise.BUDGET: 75.0,
}


class Ground(Protocol):
    """One kind of cloud. `uses_ray`: the job is a Ray task, and skylet ends the machine."""

    name: str
    infra: str
    gpus: str
    uses_ray: bool
    at_once: int
    budget_s: float
    patience_s: float
    promises: dict[Promise, float]

    @property
    def env(self) -> dict[str, str]:
        """The environment of a laptop that rents here."""

    @property
    def billed(self) -> str:
        """The name of the list of billed machines."""

    def machines(self) -> list[str]:
        """Return the names of the machines that bill at this moment."""

    def billed_s(self, run_id: str) -> float | None:
        """Return the seconds that the provider bills for a run's machines; None where it keeps no such record."""

    def take_away(self, run_id: str) -> None:
        """Preempt the machine of a run."""

    def kill(self, run_id: str, pattern: str) -> None:
        """SIGKILL the processes on the machine of a run whose command line matches `pattern`."""

    def fill_memory(self, run_id: str) -> None:
        """Make 97 % of the machine's memory be in use, by the figures of its kernel that Ray reads."""

    def reach(self, bucket: SeaweedFS) -> None:
        """Let the machines that are rented from now on reach a server of this computer."""

    def stop(self) -> None:
        """End all machines, and the ground itself."""


class Slurm:
    """A Slurm cluster: SkyPilot's only backend without Ray. Its allocations count as billed machines."""

    name, infra, gpus, uses_ray = "Slurm", "slurm", "[A100:1, RTX4090:1]", False
    at_once = 3  # as many GPUs as the cluster has
    budget_s, patience_s = 108.0, 240.0
    billed = "squeue"
    promises = _ON_SLURM

    def __init__(self) -> None:
        self._cluster = slurm_cluster.start(Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp")))

    @property
    def env(self) -> dict[str, str]:
        return self._cluster.env

    def machines(self) -> list[str]:
        return self._cluster.squeue()

    def billed_s(self, run_id: str) -> float | None:
        return None

    def take_away(self, run_id: str) -> None:
        self._cluster.scancel(f"cloudrun-{run_id}")

    def kill(self, run_id: str, pattern: str) -> None:
        self._cluster.run("pkill", "-KILL", "-u", self._cluster.user, "-f", pattern)

    def fill_memory(self, run_id: str) -> None:
        raise NotImplementedError("Slurm's machines are processes of this computer")

    def reach(self, bucket: SeaweedFS) -> None:
        pass  # the machines are in this computer's own network

    def stop(self) -> None:
        slurm_cluster.stop(self._cluster.base)


class Cloud:
    """A stand-in of a provider's API, with machines that run, behind SkyPilot's own provisioner (`tests.clouds`)."""

    uses_ray = True
    at_once = 3
    budget_s, patience_s = 300.0, 600.0
    promises = _ON_A_CLOUD

    def __init__(self, cloud: str, name: str, billed: str) -> None:
        self.name, self.billed, self.infra, self.gpus = name, billed, cloud, GPUS[cloud]
        self._box = box.start(cloud, Path(tempfile.mkdtemp(prefix=f"box-{cloud}-", dir="/tmp")))

    @property
    def env(self) -> dict[str, str]:
        return self._box.env

    def machines(self) -> list[str]:
        return self._box.up()

    def billed_s(self, run_id: str) -> float | None:
        return sum(machine.seconds() for machine in self._box.bill() if run_id in machine.name)

    def take_away(self, run_id: str) -> None:
        self._box.take_away(self._box.machine_of(run_id))

    def kill(self, run_id: str, pattern: str) -> None:
        until = time.monotonic() + _BEGINS_S
        machine = self._box.machine_of(run_id)
        while self._box.on_machine(machine, "pkill", "-KILL", "-f", pattern).returncode != 0:
            if time.monotonic() > until:
                raise RuntimeError(f"no process matches {pattern!r} on the machine of {run_id}")
            time.sleep(1)

    def fill_memory(self, run_id: str) -> None:
        self._box.fill_memory(self._box.machine_of(run_id))

    def reach(self, bucket: SeaweedFS) -> None:
        self._box.reach(bucket.port)

    def stop(self) -> None:
        self._box.end_machines()
        self._box.stop()


def ground(name: str) -> Ground:
    """Start the ground that is called `name`: slurm, aws or runpod."""
    match name:
        case "aws":
            return Cloud("aws", "AWS (moto)", "moto's instances")
        case "runpod":
            return Cloud("runpod", "RunPod (a stand-in of its API)", "the list of pods")
        case _:
            return Slurm()
