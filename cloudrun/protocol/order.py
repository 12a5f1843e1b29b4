"""What the launch asks of the worker: `order.json`, and the budget's arithmetic."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cloudrun.protocol.run_folder import RunFolder
from cloudrun.protocol.timing import END_LEAD_S, SKYPILOT_END_LEAD_S
from cloudrun.protocol.words import MachineEnding, OnFinish


@dataclass(frozen=True)
class Step:
    """One command. The machine replaces words that are a name in braces.

    The names are `{python}`, `{data}`, `{out}`, `{config}`, `{labels}`; where there are several machines also
    `{node_rank}`, from 0, and `{head}`, HOST:PORT of the first.
    """

    name: str
    argv: list[str]


@dataclass(frozen=True)
class Order:
    """Everything the worker needs to know; times in seconds, money in USD."""

    run_id: str
    python: str
    gpu_count: int  # 0: none is expected
    gpu_names: list[str]
    setup: list[Step]
    data_path: str | None  # absolute, of data that are used where they lie; None: RUN_DIR/data
    data_arrives: bool  # wait for `data.ready`
    make_data: Step | None
    command: Step
    env: dict[str, str]
    hourly_usd: float  # of the machine and its disk
    max_cost_usd: float
    max_hours: float
    written_at: float  # Unix time, by the clock of the computer that wrote the order
    billed_s: float  # already on the bill at `written_at`, on all machines of the run
    spent_usd: float  # already spent at `written_at`
    idle_s: float  # without data for this long, the run is given up
    stall_s: float  # without a training step for this long, the run is given up, too
    ending: MachineEnding  # who ends the machine
    on_finish: OnFinish
    store_uri: str | None = None  # where the uploader keeps a copy of the run's folder
    endpoint: str | None = None  # the server of that store; None: AWS
    after_s: float = 0.0  # expected from the end of training to the end of the bill
    data_beside: bool = False  # `make_data` runs beside what comes after the first step of `setup`
    may_ask: bool = False  # somebody at a terminal follows the run
    nodes: int = 1  # machines that train together, this one among them
    node_rank: int = 0
    cloud: str = ""  # where the machine is rented, as SkyPilot calls it
    spot: bool = False  # the provider may take the machine back
    end_command: str | None = None  # shell command that ends the machine, for MachineEnding.COMMAND
    has_timer: bool = False  # whether SkyPilot's idle timer ends machines there
    ports: list[int] = field(default_factory=list)  # on one of them the first machine listens for the others

    @property
    def ends_machine(self) -> bool:
        """Whether the worker ends the machine: it is rented, and has the only copy of what is not home or stored."""
        return self.ending != MachineEnding.NOBODY

    @property
    def may_be_taken_away(self) -> bool:
        """Whether a signal without a request to stop comes from the provider, which wants the machine back."""
        return self.ends_machine or self.nodes > 1

    @property
    def end_lead_s(self) -> float:
        """Seconds before the budget's end at which ending the machine begins: that takes time, which is billed, too.

        SkyPilot's skylet, which is asked first, looks once a minute: so the end comes up to 40 s early, or as late.
        """
        return SKYPILOT_END_LEAD_S if self.ending == MachineEnding.SKYPILOT else END_LEAD_S

    @property
    def outlives_its_job(self) -> bool:
        """Whether the watchdog runs outside the SkyPilot job, which Ray may kill; Slurm ends what leaves its job."""
        return self.ending == MachineEnding.SKYPILOT

    @property
    def waits_for_results(self) -> bool:
        """Whether the results have still to be taken from this computer, once the job has ended."""
        return self.ends_machine or self.store_uri is not None

    def python_in(self, run_dir: Path) -> str:
        """Return the path of the job's Python, which the set-up makes where it is not there yet."""
        return self.python.replace("$CLOUDRUN_VENV", str(RunFolder(run_dir).venv))

    def limit_s(self) -> float:
        """Return the seconds of machine time that the budget allows, from the first billed second of the run."""
        by_hours = self.max_hours * 3600
        if self.hourly_usd <= 0:
            return by_hours
        left_usd = max(self.max_cost_usd - self.spent_usd, 0.0)
        return min(by_hours, self.billed_s + left_usd / self.hourly_usd * 3600)

    def reserve_s(self) -> float:
        """Return the seconds kept back at the end of the budget to save, and to bring the results home."""
        return min(120.0, 0.25 * self.limit_s()) + self.end_lead_s - END_LEAD_S

    def spent_by(self, billed_s: float) -> float:
        """Return the USD that are spent once `billed_s` seconds are on the bill."""
        return self.spent_usd + max(billed_s - self.billed_s, 0.0) / 3600 * self.hourly_usd

    def billed_at_start(self, now: float, *, arrived_at: float) -> float:
        """Return the seconds on the bill at `now`, the worker's first start.

        `arrived_at` is when the order's file was written, by the machine's clock, as `now` is. The shorter of the two
        gaps counts: one is too long where the sender's clock is wrong, the other where the machine's was set meanwhile.
        """
        gaps = [gap for gap in (now - self.written_at, now - arrived_at) if gap >= 0]
        return self.billed_s + min(gaps, default=0.0)

    def at(self, moment: float) -> Order:
        """Return the same order, written at `moment` by the same clock: the time between is billed and spent."""
        passed_s = max(moment - self.written_at, 0.0)
        return replace(
            self,
            written_at=moment,
            billed_s=self.billed_s + passed_s,
            spent_usd=self.spent_usd + passed_s / 3600 * self.hourly_usd,
        )

    def identity(self) -> str:
        """Return a hash that tells this order from other orders for the same folder: `resume` writes a new order."""
        return hashlib.sha256(self.as_json().encode()).hexdigest()[:16]

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def read_order(path: Path) -> Order:
    """Return the order that a launch has written to `path`."""
    plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for key in ("make_data", "command"):
        plain[key] = None if plain[key] is None else Step(**plain[key])
    plain["setup"] = [Step(**step) for step in plain["setup"]]
    plain["ending"], plain["on_finish"] = MachineEnding(plain["ending"]), OnFinish(plain["on_finish"])
    return Order(**plain)
