"""Estimate hours and dollars of a run before it starts, as a range, and say what the estimate rests on. Pure.

Times measured in earlier runs count more than listed ones, part by part: the speed from runs of the same kind on the
same machine, renting and set-up from runs on the same infra, the uplink from any transfer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cloudrun.catalog.infras import CAPABILITIES, backend_for
from cloudrun.forecast.fitting import fit
from cloudrun.forecast.speed import Speed, checkpoint_bytes, listed_speed, uncounted
from cloudrun.forecast.workload import Workload
from cloudrun.state.records import Estimate, Measured, Part
from cloudrun.text.units import size

Range = tuple[float, float]

# How many earlier runs count, the newest first.
_REMEMBERED = 3
# The range around the time of one run, and around the extremes of several: one run says less.
_AROUND_ONE, _AROUND_SEVERAL = 0.15, 0.07
# Seconds where nobody has measured anything. SkyPilot's clouds take minutes to boot a machine.
_PROVISION = {"local": (0.0, 1.0), "slurm": (10.0, 60.0), "ssh": (5.0, 30.0)}
_PROVISION_CLOUD = (60.0, 420.0)
_SETUP = (40.0, 300.0)  # a Python environment with torch, of 3 to 5 GB
_OWN_SETUP = (0.5, 20.0)
_START_GPU, _START_CPU = (10.0, 60.0), (4.0, 30.0)  # imports, weights, the first kernels, saving
_RELEASE = {"local": (0.0, 2.0), "slurm": (2.0, 20.0)}
_RELEASE_CLOUD = (10.0, 60.0)
_UPLINK_BYTES_S = (1e6, 2.5e6, 12.5e6)  # slow, the figure that is shown, fast
_DISK_BYTES_S = 2e8
_STORE_BYTES_S = (2e7, 2e8)  # from a bucket to a machine in a data centre


@dataclass(frozen=True, slots=True)
class Machine:
    """The properties of a machine that an estimate needs. `hourly_usd` None: known only when it is rented."""

    key: str  # as `workload.machine_key`
    infra: str
    gpu: str | None  # the GPU that trains; None: a CPU trains
    cpus: float | None
    hourly_usd: float | None  # of all nodes
    nodes: int = 1  # number of such machines


@dataclass(frozen=True, slots=True)
class NoEstimate:
    """There is nothing to estimate from; `why` completes "no estimate: "."""

    why: str


def estimate(
    workload: Workload, machine: Machine, history: Sequence[Measured], *, is_up: bool = False
) -> Estimate | NoEstimate:
    """Estimate a run on a machine. `history`: the measured times of earlier runs, the newest first.

    `is_up`: the machine is up and has its data already, as for a run that is resumed there.
    """
    past = [one for one in history if one.kind == workload.kind and one.machine == machine.key][:_REMEMBERED]
    there = [one for one in history if one.infra == machine.infra][:_REMEMBERED]
    train = _train(workload, machine, past)
    if isinstance(train, NoEstimate):
        return train
    train_range, speed_rests_on = train
    rests_on = [speed_rests_on]
    before: list[Part] = []
    if not is_up:
        alike = [one for one in past if one.infra == machine.infra] or there
        before, why = _before(workload, machine, alike, history)
        rests_on += why
    after = _after(workload, machine, past, there)
    fitted = fit(workload, train_range, [*before, *after], hourly_usd=machine.hourly_usd)
    if fitted is not None:
        train_range = fitted.train_s
        rests_on.append(fitted.rests_on)
    parts = [*before, Part(name="train", low_s=train_range[0], high_s=train_range[1]), *after]
    low, high = sum(part.low_s for part in parts), sum(part.high_s for part in parts)
    rate = machine.hourly_usd
    return Estimate(
        parts=tuple(parts),
        low_s=round(low, 1),
        high_s=round(high, 1),
        low_usd=None if rate is None else round(low / 3600 * rate, 4),
        high_usd=None if rate is None else round(high / 3600 * rate, 4),
        rests_on="; ".join(rests_on),
        epochs=None if fitted is None else fitted.epochs,
    )


def start_s(made: Estimate) -> float:
    """Return the least seconds that pass before training begins."""
    return sum(part.low_s for part in made.parts if part.name in ("provision", "setup", "sync"))


def after_s(made: Estimate) -> float:
    """Return the expected seconds from the end of training to the end of the bill."""
    return sum((part.low_s + part.high_s) / 2 for part in made.parts if part.name in ("upload", "release"))


def _train(workload: Workload, machine: Machine, past: Sequence[Measured]) -> tuple[Range, str] | NoEstimate:
    """Return the seconds of the training command as a range, and what they rest on."""
    remembered = f"your last {_runs(past)} of this kind on {machine.key}"
    if workload.train is None:
        whole = _measured(past, lambda one: one.command_s)
        if whole is None:
            return NoEstimate(f"it is a command of your own, and none like it has ended on {machine.key} yet")
        return whole, remembered
    if not workload.train_images:
        return NoEstimate("its images are not on this computer, so nobody has counted them")
    train_s = _measured(past, lambda one: 1 / one.images_per_s if one.images_per_s else None)
    evaluate_s = _measured(past, lambda one: 1 / one.evaluated_per_s if one.evaluated_per_s else None)
    begin = _measured(past, lambda one: one.start_s)
    if train_s is not None:
        low, high = train_s
        speed = Speed(train_s, evaluate_s or (low / 3, high), remembered)
    else:
        listed = listed_speed(workload, gpu=machine.gpu, cpus=machine.cpus, nodes=machine.nodes)
        if listed is None:
            names = uncounted(workload)
            what = f"the work of {', '.join(names)}" if names else f"the speed of {machine.gpu}"
            return NoEstimate(f"{what} is not listed, and no run of this kind has ended on {machine.key} yet")
        speed = listed
    begin = begin or (_START_GPU if machine.gpu else _START_CPU)
    images, evaluations = workload.epochs * workload.train_images, workload.evaluations
    low = begin[0] + images * speed.train_s[0] + evaluations * speed.evaluate_s[0]
    high = begin[1] + images * speed.train_s[1] + evaluations * speed.evaluate_s[1]
    return (low, high), speed.rests_on


def _before(
    workload: Workload, machine: Machine, there: Sequence[Measured], history: Sequence[Measured]
) -> tuple[list[Part], list[str]]:
    """Return the parts before training, and what they rest on: renting, set-up and data.

    The data arrive during set-up: the part `sync` is the time that they take beyond it.
    """
    rests_on = []
    provision = _measured(there, lambda one: one.provision_s)
    setup = _measured(there, lambda one: one.setup_s)
    if _is_remote(machine):
        known = provision is not None and setup is not None
        rests_on.append(
            f"start and set-up as in your last {_runs(there)} on {machine.infra}"
            if known
            else f"typical times to start and set up a machine of {machine.infra}"
        )
    provision = provision or _PROVISION.get(machine.infra, _PROVISION_CLOUD)
    if not workload.has_setup:
        setup = (0.0, 1.0)
    setup = setup or (_SETUP if _is_remote(machine) else _OWN_SETUP)
    sync = (0.0, 0.0)
    if workload.sent_bytes:
        sync, how = _sync(workload.sent_bytes, history)
        rests_on.append(how)
    if workload.stored_bytes:
        slow, fast = _STORE_BYTES_S
        sync = workload.stored_bytes / fast, workload.stored_bytes / slow
        rests_on.append(f"a store that gives {size(slow)} to {size(fast)} a second")
    parts = [
        Part(name="provision", low_s=provision[0], high_s=provision[1]),
        Part(name="setup", low_s=setup[0], high_s=setup[1]),
        Part(name="sync", low_s=max(0.0, sync[0] - setup[0]), high_s=max(0.0, sync[1] - setup[1])),
    ]
    return parts, rests_on


def _is_remote(machine: Machine) -> bool:
    return CAPABILITIES[backend_for(machine.infra)].is_remote


def _sync(sent_bytes: int, history: Sequence[Measured]) -> tuple[Range, str]:
    rates = [one.sync_bytes / one.sync_s for one in history if one.sync_bytes and one.sync_s][:_REMEMBERED]
    if not rates:
        slow, named, fast = _UPLINK_BYTES_S
        return (sent_bytes / fast, sent_bytes / slow), f"a guessed uplink of {size(named)}/s"
    seconds = _around([sent_bytes / rate for rate in rates])
    return seconds, f"an uplink of {size(sum(rates) / len(rates))}/s in your last transfer{'s' * (len(rates) > 1)}"


def _after(workload: Workload, machine: Machine, past: Sequence[Measured], there: Sequence[Measured]) -> list[Part]:
    upload = _measured(past, lambda one: one.upload_s)
    if upload is None:
        count = checkpoint_bytes(workload)
        slow, fast = (2e6, 5e7) if _is_remote(machine) else (_DISK_BYTES_S / 4, _DISK_BYTES_S)
        upload = (count / fast, 1.0 + count / slow)
    release = _measured(there, lambda one: one.release_s) or _RELEASE.get(machine.infra, _RELEASE_CLOUD)
    return [
        Part(name="upload", low_s=upload[0], high_s=upload[1]),
        Part(name="release", low_s=release[0], high_s=release[1]),
    ]


def _measured(runs: Sequence[Measured], part: Callable[[Measured], float | None]) -> Range | None:
    seconds = [value for one in runs if (value := part(one)) is not None]
    return _around(seconds) if seconds else None


def _around(values: Sequence[float]) -> Range:
    spread = _AROUND_ONE if len(values) == 1 else _AROUND_SEVERAL
    return min(values) * (1 - spread), max(values) * (1 + spread)


def _runs(past: Sequence[Measured]) -> str:
    return "run" if len(past) == 1 else f"{len(past)} runs"
