"""List our machines by asking each provider itself: also those that this computer's SkyPilot does not know.

Machines are found by name. Slurm was tried for real. The others call the listing that SkyPilot's own provisioner uses,
and were tried against stand-ins of their interfaces (`tests/clouds`); no account was at hand.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cloudrun.backends.patience import within
from cloudrun.backends.skypilot import internals
from cloudrun.backends.skypilot.provider_rows import (
    aws_machine,
    lambda_machine,
    runpod_machine,
    slurm_end,
    vast_machine,
)
from cloudrun.state.machines import Machine
from cloudrun.state.records import now_utc
from cloudrun.state.run import MACHINE_PREFIX, Run

_SLURM_CONFIG = Path(".slurm/config")
_TIMEOUT_S = 20.0
# AWS has some twenty regions, each asked by itself; a library may go on for minutes where a provider does not answer.
_LISTING_S = 60.0
# A part of the query that SkyPilot itself sends; sent here since SkyPilot's own listing leaves out prices and times.
_RUNPOD_QUERY = "query { myself { pods { id name desiredStatus costPerHr lastStatusChange uptimeSeconds } } }"
# Vast's client returns an empty text for any error, and SkyPilot takes that for an empty list: for SkyPilot all
# machines are then gone.
_ERRORS_LOOK_EMPTY = ("vast",)
_AWS_THERE = ("pending", "running", "stopping", "stopped")
_AWS_ENDED = ("stopping", "stopped", "shutting-down", "terminated")


class CannotList(Exception):
    """The provider could not be asked; the message says why."""


class NoListing(CannotList):
    """cloudrun has no way to ask this provider yet."""


def list_machines(cloud: str) -> list[Machine]:
    """Return our machines on `cloud`, the stopped ones, too. Raises CannotList; NoListing where it cannot be asked."""
    lister = _LISTERS.get(cloud)
    if lister is None:
        raise NoListing(f"cloudrun does not know how to list the machines of {cloud}")
    return [machine for machine in _asked(lister) if machine.name.startswith(MACHINE_PREFIX)]


def can_list(cloud: str) -> bool:
    """Return whether cloudrun has a way to ask this cloud for its machines."""
    return cloud in _LISTERS


def errors_look_empty(infra: str) -> bool:
    """Return whether SkyPilot takes an error of this provider for an account without machines."""
    return infra in _ERRORS_LOOK_EMPTY


def refuse_if_silent(infra: str) -> None:
    """Raise CannotList where SkyPilot, asked now, would take the provider's silence for the end of its machines."""
    if errors_look_empty(infra):
        list_machines(infra)


def listed_for(run: Run) -> list[Machine] | None:
    """Return the provider's own listing of a run's machines; None where there is no answer, which proves nothing."""
    try:
        return machines_of(run.machine_name, infra_of(run))
    except CannotList:
        return None


def machines_of(machine_name: str, infra: str, *, region: str | None = None) -> list[Machine]:
    """Return the machines that the provider lists for SkyPilot's name of a machine. Raises CannotList.

    `region`: the region of the machine where it is known, for a cloud that is slow to ask in all of its regions.
    """
    if infra == "aws" and region is not None:
        return _ours(_asked(lambda: _aws(region)), machine_name, infra)
    return _ours(list_machines(infra), machine_name, infra)


def ended_at(run: Run) -> datetime | None:
    """Return when the run's machines stopped or ended, by the provider's record; None where there is no record.

    AWS lists an ended instance for about an hour, Slurm an allocation for some minutes. RunPod tells when a pod exited.
    RunPod, Vast and Lambda tell nothing of a machine that was terminated.
    """
    infra = infra_of(run)
    region = run.price.region if run.price else None
    try:
        if infra == "aws":
            machines = _asked(lambda: _aws(region, _AWS_ENDED))
        elif infra == "slurm":
            machines = _asked(_slurm_ended)
        else:
            machines = list_machines(infra)
    except CannotList:
        return None
    ends = [one.ended_at for one in _ours(machines, run.machine_name, infra)]
    known = [end for end in ends if end is not None and (run.billed_from is None or end >= run.billed_from)]
    return max(known) if known else None


def _ours(machines: Sequence[Machine], machine_name: str, infra: str) -> list[Machine]:
    """Return the machines with the whole name that SkyPilot gives them on `infra`, or with the run's id.

    The second is for machines that another SkyPilot rented: it gives them other names.
    """
    whole, run_id = internals.name_on(infra, machine_name), machine_name.removeprefix(MACHINE_PREFIX)
    return [machine for machine in machines if machine.cluster == whole or machine.run_id == run_id]


def infra_of(run: Run) -> str:
    """Return the cloud that the run's machine is, or was to be, rented on; empty where SkyPilot was to choose."""
    if run.price is not None:
        return run.price.infra
    return run.infra.split("/")[0] if run.infra else ""


def _asked(lister: Callable[[], list[Machine]]) -> list[Machine]:
    """Call `lister`. Raises CannotList for whatever the provider's own library raises, and where no answer comes."""
    try:
        return within(_LISTING_S, lister)
    except CannotList:
        raise
    except Exception as err:
        lines = str(err).strip().splitlines()
        raise CannotList(lines[0] if lines else type(err).__name__) from err


def end_machine(machine: Machine) -> None:
    """Ask the provider itself to end the machine. Raises CannotList where the provider cannot be asked."""
    ender = _ENDERS.get(machine.infra)
    if ender is None:
        raise CannotList(f"cloudrun does not know how to end a machine of {machine.infra} that SkyPilot does not know")
    ender(machine)


def _slurm_hosts() -> list[str]:
    config = Path.home() / _SLURM_CONFIG
    if not config.exists():
        return []
    lines = (line.split() for line in config.read_text(encoding="utf-8").splitlines())
    return [words[1] for words in lines if len(words) == 2 and words[0].lower() == "host" and "*" not in words[1]]


def _on_slurm(host: str, *words: str) -> str:
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new", "-o", "LogLevel=ERROR"]
    options += ["-o", "ConnectTimeout=10", "-F", str(Path.home() / _SLURM_CONFIG)]
    try:
        done = subprocess.run(
            ["ssh", *options, host, *words], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as err:
        raise CannotList(f"{host} gave no answer in {_TIMEOUT_S:.0f} s") from err
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise CannotList(f"{host}: {said[-1] if said else f'exit code {done.returncode}'}")
    return done.stdout


def _slurm() -> list[Machine]:
    """Return the allocations, pending ones too: these bill as soon as they start."""
    found = []
    hosts = _slurm_hosts()
    if not hosts:
        raise CannotList(f"no Slurm cluster is named in ~/{_SLURM_CONFIG}")
    for host in hosts:
        for line in _on_slurm(host, "squeue --me --noheader --format='%i|%j|%M|%b'").splitlines():
            job, name, elapsed, gres = line.split("|")
            _, _, gpu = gres.partition("gpu:")
            found.append(
                Machine(
                    name=name,
                    infra="slurm",
                    handle=f"{host}:{job}",
                    is_known_here=False,
                    gpu=gpu or None,
                    up_since=now_utc() - _elapsed(elapsed),
                )
            )
    return found


def _slurm_ended() -> list[Machine]:
    """Return the allocations that have ended, as long as Slurm remembers them."""
    found = []
    states = "CA,CD,F,TO,NF,OOM,PR,DL,BF"
    for host in _slurm_hosts():
        lines = _on_slurm(host, f"TZ=UTC squeue --me --noheader --states={states} --format='%i|%j|%e'")
        for line in lines.splitlines():
            job, name, end = line.split("|")
            found.append(
                Machine(
                    name=name,
                    infra="slurm",
                    handle=f"{host}:{job}",
                    is_known_here=False,
                    stopped="ended",
                    ended_at=slurm_end(end),
                )
            )
    return found


def _end_slurm(machine: Machine) -> None:
    host, _, job = machine.handle.rpartition(":")
    _on_slurm(host, "scancel", job)


def _elapsed(text: str) -> timedelta:
    """Return the time of Slurm's `[days-][hours:]minutes:seconds`; no time where the allocation has not begun."""
    days, _, clock = text.rpartition("-")
    numbers = [int(part) for part in clock.split(":") if part.isdigit()]
    seconds = sum(number * 60**place for place, number in enumerate(reversed(numbers)))
    return timedelta(days=int(days or 0), seconds=seconds)


def _runpod() -> list[Machine]:
    """Return the pods, those that have exited, too."""
    answer = internals.runpod_query(_RUNPOD_QUERY)
    return [runpod_machine(pod, now_utc()) for pod in answer["data"]["myself"]["pods"]]


def _vast() -> list[Machine]:
    rows = internals.vast_instances()
    if not isinstance(rows, list):
        raise CannotList(
            "Vast's client gave no list of machines, and does not say why: is the key in"
            " ~/.config/vastai/vast_api_key right, does console.vast.ai answer?"
        )
    return [vast_machine(row) for row in rows]


def _lambda() -> list[Machine]:
    return [lambda_machine(one) for one in internals.lambda_instances()]


def _aws(region: str | None = None, states: Sequence[str] = _AWS_THERE) -> list[Machine]:
    """Return the instances in one region, or in all that the account has; found by SkyPilot's tag."""
    regions = [region] if region else _aws_regions()
    filters = [
        {"Name": f"tag:{internals.MACHINE_TAG}", "Values": [f"{MACHINE_PREFIX}*"]},
        {"Name": "instance-state-name", "Values": list(states)},
    ]
    found = []
    for place in regions:
        pages = internals.ec2_client(place).get_paginator("describe_instances")
        for page in pages.paginate(Filters=filters):
            found += [aws_machine(place, one) for group in page["Reservations"] for one in group["Instances"]]
    return found


def _aws_regions() -> list[str]:
    return [one["RegionName"] for one in internals.ec2_client("us-east-1").describe_regions()["Regions"]]


def _end_runpod(machine: Machine) -> None:
    internals.end_runpod_pod(machine.handle)


def _end_vast(machine: Machine) -> None:
    internals.end_vast_instance(machine.handle)


def _end_lambda(machine: Machine) -> None:
    internals.end_lambda_instance(machine.handle)


def _end_aws(machine: Machine) -> None:
    region, _, instance = machine.handle.partition(":")
    internals.ec2_client(region).terminate_instances(InstanceIds=[instance])


_LISTERS: dict[str, Callable[[], list[Machine]]] = {
    "slurm": _slurm,
    "runpod": _runpod,
    "vast": _vast,
    "lambda": _lambda,
    "aws": _aws,
}
_ENDERS: dict[str, Callable[[Machine], Any]] = {
    "slurm": _end_slurm,
    "runpod": _end_runpod,
    "vast": _end_vast,
    "lambda": _end_lambda,
    "aws": _end_aws,
}
