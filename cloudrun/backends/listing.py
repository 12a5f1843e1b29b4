"""What each provider itself lists of ours, found by name: also what this computer's SkyPilot never heard of.

Slurm was tried for real. The others call the listing that SkyPilot's own provisioner uses; no account was
at hand to try them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cloudrun.machines import Machine
from cloudrun.run import MACHINE_PREFIX, Run, now_utc

_SLURM_CONFIG = Path(".slurm/config")
_TIMEOUT_S = 20.0


class CannotList(Exception):
    """The provider could not be asked; the message says why."""


class NoListing(CannotList):
    """There is no way to ask it yet."""


def list_machines(cloud: str) -> list[Machine]:
    """Machines of ours on `cloud`. Raises CannotList."""
    lister = _LISTERS.get(cloud)
    if lister is None:
        raise NoListing(f"cloudrun does not know how to list the machines of {cloud}")
    try:
        return [machine for machine in lister() if machine.name.startswith(MACHINE_PREFIX)]
    except CannotList:
        raise
    except Exception as err:
        lines = str(err).strip().splitlines()
        raise CannotList(lines[0] if lines else type(err).__name__) from err


def listed_for(run: Run) -> list[Machine] | None:
    """The provider's own listing of a run's machines; None where it can't be asked, which proves nothing."""
    quote = run.price
    infra = quote.infra if quote else run.infra.split("/")[0] if run.infra else ""
    try:
        return [machine for machine in list_machines(infra) if machine.run_id == run.run_id]
    except CannotList:
        return None


def end_machine(machine: Machine) -> None:
    """Ask the provider itself to end it. Raises CannotList where it can't be asked."""
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
    """Allocations, pending ones too: they bill as soon as they start."""
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
                    known_to_sky=False,
                    gpu=gpu or None,
                    up_since=now_utc() - _elapsed(elapsed),
                )
            )
    return found


def _end_slurm(machine: Machine) -> None:
    host, _, job = machine.handle.rpartition(":")
    _on_slurm(host, "scancel", job)


def _elapsed(text: str) -> timedelta:
    """Slurm's `[days-][hours:]minutes:seconds`; nothing where it has not begun."""
    days, _, clock = text.rpartition("-")
    numbers = [int(part) for part in clock.split(":") if part.isdigit()]
    seconds = sum(number * 60**place for place, number in enumerate(reversed(numbers)))
    return timedelta(days=int(days or 0), seconds=seconds)


def _runpod() -> list[Machine]:
    from sky.provision.runpod import utils

    return [_plain(key, one["name"], "runpod") for key, one in utils.list_instances().items()]


def _vast() -> list[Machine]:
    from sky.provision.vast import utils

    return [_plain(key, one["name"] or "", "vast") for key, one in utils.list_instances().items()]


def _lambda() -> list[Machine]:
    from sky.provision.lambda_cloud import lambda_utils

    client = lambda_utils.LambdaCloudClient()
    return [_plain(one["id"], one.get("name") or "", "lambda") for one in client.list_instances()]


def _aws() -> list[Machine]:
    """In every region that the account has; by the tag that SkyPilot gives its machines."""
    from sky.adaptors import aws

    found = []
    regions = [one["RegionName"] for one in aws.client("ec2", region_name="us-east-1").describe_regions()["Regions"]]
    for region in regions:
        pages = aws.client("ec2", region_name=region).get_paginator("describe_instances")
        filters = [
            {"Name": "tag:ray-cluster-name", "Values": [f"{MACHINE_PREFIX}*"]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
        ]
        for page in pages.paginate(Filters=filters):
            for one in (instance for group in page["Reservations"] for instance in group["Instances"]):
                tags = {tag["Key"]: tag["Value"] for tag in one["Tags"]}
                machine = _plain(f"{region}:{one['InstanceId']}", tags["ray-cluster-name"], "aws")
                found.append(machine.model_copy(update={"up_since": one["LaunchTime"].astimezone(UTC)}))
    return found


def _plain(handle: str, name: str, infra: str, up_since: datetime | None = None) -> Machine:
    return Machine(name=name, infra=infra, handle=str(handle), known_to_sky=False, up_since=up_since)


def _end_runpod(machine: Machine) -> None:
    from sky.provision.runpod import utils

    utils.remove(machine.handle)


def _end_vast(machine: Machine) -> None:
    from sky.provision.vast import utils

    utils.remove(machine.handle)


def _end_lambda(machine: Machine) -> None:
    from sky.provision.lambda_cloud import lambda_utils

    lambda_utils.LambdaCloudClient().remove_instances([machine.handle])


def _end_aws(machine: Machine) -> None:
    from sky.adaptors import aws

    region, _, instance = machine.handle.partition(":")
    aws.client("ec2", region_name=region).terminate_instances(InstanceIds=[instance])


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
