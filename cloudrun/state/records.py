"""The parts of a run's record: phases, prices, the worker's messages as far as they are believed, estimates, bills."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from cloudrun.errors import ExitCode
from cloudrun.protocol.words import EndReason


class Phase(StrEnum):
    """The phases of a run; the last six are final."""

    LAUNCHING = "launching"  # a machine is being asked for
    PREPARING = "preparing"  # the machine is up: set-up and data
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    OVER_BUDGET = "over_budget"
    STOPPED = "stopped"  # by `down` or Ctrl-C, before the job was done
    PREEMPTED = "preempted"  # the provider took the machine back, and the job was told in time to save
    LOST = "lost"  # the machine went away, or its provider stopped it, and left no result

    @property
    def is_final(self) -> bool:
        """Whether the run has ended, in whatever way."""
        return self not in (Phase.LAUNCHING, Phase.PREPARING, Phase.RUNNING)

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that followed the job to this end."""
        if self is Phase.OVER_BUDGET:
            return ExitCode.BUDGET
        return ExitCode.DONE if self is Phase.SUCCEEDED else ExitCode.FAILED


class JobState(StrEnum):
    """What a backend sees of a run's machine and job, apart from the files that the job writes."""

    ABSENT = "absent"  # no machine
    IDLE = "idle"  # a machine without a job on it
    STOPPED = "stopped"  # a machine that its provider, or somebody at its console, has stopped: its disk may bill
    ACTIVE = "active"
    UNKNOWN = "unknown"  # the backend could not be asked


# Values beyond these are refused: no clock of a machine is that wrong, and sums would overflow.
_YEARS = range(1970, 3000)
_LONGEST_S = 1e9
_DEAREST_USD = 1e9
_LIMITS = ("max_cost", "max_hours")
_LARGEST_LIMIT = 1e6


def _plausible(moment: datetime) -> datetime:
    if moment.year not in _YEARS:
        raise ValueError(f"the year {moment.year} is not one of ours")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_plausible)]
Seconds = Annotated[float, Field(ge=-_LONGEST_S, le=_LONGEST_S)]
Usd = Annotated[float, Field(ge=-_DEAREST_USD, le=_DEAREST_USD)]
Count = Annotated[int, Field(ge=0, le=10**9)]


def is_phase(value: object) -> bool:
    """Return whether `value` is a phase of the worker, with what a receipt needs: `name`, `from`, `to`, `seconds`."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or len(value["name"]) > 100:
        return False
    seconds = value.get("seconds")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= _LONGEST_S:
        return False
    return all(is_moment(value.get(key)) for key in ("from", "to"))


def is_moment(value: object) -> bool:
    """Return whether `value` is a text of ISO 8601 with a time zone, in a plausible year."""
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return False
    return isinstance(value, str) and moment.tzinfo is not None and moment.year in _YEARS


def _only_phases(value: object) -> object:
    return tuple(filter(is_phase, value)) if isinstance(value, list | tuple) else value


Phases = Annotated[tuple[dict[str, Any], ...], BeforeValidator(_only_phases)]
"""The worker's phases, in order; values that are not phases are left out."""


def _usable(job: dict[str, Any]) -> dict[str, Any]:
    """Refuse a job whose budget, lifecycle or nodes would stop a command that is to end its bill."""
    budget, lifecycle = job.get("budget"), job.get("lifecycle")
    if "budget" in job and not (isinstance(budget, dict) and all(map(_is_positive, map(budget.get, _LIMITS)))):
        raise ValueError("`budget` needs a positive max_cost and max_hours")
    if "lifecycle" in job and not (isinstance(lifecycle, dict) and isinstance(lifecycle.get("on_finish"), str)):
        raise ValueError("`lifecycle` has no on_finish")
    nodes = job.get("nodes")
    if nodes is not None and not _is_positive(nodes):
        raise ValueError("`nodes` is not a number")
    return job


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value <= _LARGEST_LIMIT


Job = Annotated[dict[str, Any], AfterValidator(_usable)]


class Record(BaseModel):
    """The base of all records: it refuses unknown names, so that a slip in the name of a money field cannot pass.

    `received.understood` is for texts that others wrote: it leaves out unknown names.
    """

    # Instances are validated again, since model_copy() takes any value.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, revalidate_instances="always")


class Fallback(Record):
    """The machine that is rented where the GPUs before it cannot be had; USD an hour are of all nodes, with disks."""

    gpu: str
    infra: str
    total_hourly_usd: float


class Quote(Record):
    """A machine and its price in USD an hour. `source` and `as_of` say where the price comes from and how old it is."""

    machine: str
    infra: str
    region: str | None
    gpu: str | None
    spot: bool
    hourly_usd: Usd
    disk_hourly_usd: Usd = 0.0  # of disks that the provider bills beside the machine
    source: str
    as_of: Moment
    cpus: float | None = None
    nodes: int = 1  # number of such machines; the prices are of all of them together
    is_billed: bool = False  # whether the price is the provider's own for this very machine, with its disk
    fallbacks: tuple[Fallback, ...] = ()  # the other GPUs of the job's list, at the price of each

    @property
    def total_hourly_usd(self) -> float:
        """USD an hour of the machine and its disk."""
        return self.hourly_usd + self.disk_hourly_usd

    def at_its_providers(self, hourly_usd: float, as_of: datetime) -> Quote:
        """Return the same machine at the price that its provider lists for it, which includes the disk."""
        source = f"what {self.infra} bills"
        billed = {"hourly_usd": hourly_usd, "disk_hourly_usd": 0.0, "source": source, "as_of": as_of, "is_billed": True}
        return self.model_copy(update=billed)


class Result(Record):
    """The worker's result, written when the job has ended (`result.json`)."""

    reason: EndReason
    exit_code: Annotated[int, Field(ge=-(2**31), lt=2**31)]
    message: str
    started_at: Moment
    finished_at: Moment
    phases: Phases = ()

    @property
    def phase(self) -> Phase:
        """The final phase of a run that ended by this reason."""
        match self.reason:
            case EndReason.FINISHED:
                return Phase.SUCCEEDED
            case EndReason.BUDGET:
                return Phase.OVER_BUDGET
            case EndReason.STOPPED:
                return Phase.STOPPED
            case EndReason.PREEMPTED:
                return Phase.PREEMPTED
            case EndReason.FAILED | EndReason.NO_GPU | EndReason.SETUP_FAILED | EndReason.NO_DATA | EndReason.STALLED:
                return Phase.FAILED


class Progress(Record):
    """The worker's heartbeat (`status.json`)."""

    phase: str
    heartbeat_at: Moment
    started_at: Moment | None = None
    phases: Phases = ()  # those that are over
    epoch: Count | None = None
    epochs: Count | None = None
    eta_s: Seconds | None = None
    step: Count | None = None  # finished steps of this epoch
    steps: Count | None = None  # of each epoch
    loss: Annotated[float, Field(ge=-1e30, le=1e30)] | None = None
    images_per_s: Annotated[float, Field(ge=0, le=1e9)] | None = None
    projected_s: Seconds | None = None
    projected_usd: Usd | None = None
    rests_on: str | None = None
    detail: str = ""


class BilledElsewhere(Record):
    """SkyPilot's own count of a machine's time and cost (`sky cost-report`)."""

    seconds: float
    usd: float
    began_at: Moment | None = None
    ended_at: Moment | None = None


class Interval(Record):
    """An earlier machine of a run, with its bill closed."""

    quote: Quote | None
    billed_from: Moment
    released_at: Moment
    released_by: Moment | None = None  # the latest possible moment of the release; None: `released_at` is exact


class Alternative(Record):
    """The time and cost that a run would have had on another offer, by the cards' listed speeds; seconds and USD."""

    infra: str
    region: str | None
    gpu: str
    spot: bool
    hourly_usd: float
    seconds: float
    usd: float


class Part(Record):
    """A part of a run, such as set-up, and its estimated seconds as a range."""

    name: str
    low_s: float
    high_s: float


class Estimate(Record):
    """The estimated time and cost of a run, from the first billed second to the last, as a range.

    USD are None where the price is only known once the machine is rented. `rests_on` tells people what the estimate is
    made from.
    """

    parts: tuple[Part, ...]
    low_s: float
    high_s: float
    low_usd: float | None
    high_usd: float | None
    rests_on: str
    epochs: tuple[int, int] | None = None  # that `epochs: auto` will choose, as a range; None: the job has a number

    @property
    def middle_usd(self) -> float | None:
        """The USD in the middle of the range; None where the price is not known."""
        return None if self.low_usd is None or self.high_usd is None else round((self.low_usd + self.high_usd) / 2, 4)


class DataCheck(Record):
    """What a look at the images has found before the launch.

    `counts`: images by split and class, None where the classes are too many to keep. `were_compared`: whether copies
    of an image in several splits were looked for. `warnings`: for people, the worst first.
    """

    counts: dict[str, dict[str, Count]] | None = None
    were_compared: bool = False
    warnings: tuple[str, ...] = ()


class Measured(Record):
    """The measured times of a run, from which later estimates are made.

    None where the run did not come to that part, or where nobody saw it.
    """

    kind: str  # what was trained: runs of one kind on the same machine take the same time an image
    machine: str  # the GPUs, or the computer's name where a CPU trains
    infra: str
    images_per_s: float | None = None  # training alone
    evaluated_per_s: float | None = None
    start_s: float | None = None  # of the training command, without its steps and its evaluations
    command_s: float | None = None  # of the whole command
    provision_s: float | None = None
    setup_s: float | None = None
    sync_bytes: int | None = None
    sync_s: float | None = None
    upload_s: float | None = None
    release_s: float | None = None


def now_utc() -> datetime:
    """Return the present time in UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
