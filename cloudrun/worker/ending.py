"""End the machine from within, without the laptop: several ways, tried in turn until the machine is gone."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cloudrun.protocol.order import Order
from cloudrun.protocol.words import MachineEnding
from cloudrun.retry import Backoff
from cloudrun.worker.sky_internals import ASK_SKYLET, TERMINATE
from cloudrun.worker.sky_runtime import sky_environment, sky_python

_PATIENCE_S = 25.0
# A machine that shuts down stops its services first.
_COMMAND_PATIENCE_S = 90.0
# SkyPilot's skylet looks once a minute, after its other work; then it asks the provider.
_SKYLET_PATIENCE_S = 80.0
_PAUSES_S = (25.0, 75.0, 175.0, 300.0)
# Power-off comes this late: it puts the results out of reach, and ends skylet, which goes on trying until then.
_POWER_OFF_AFTER_S = 600.0
# Clouds that bill the disk alone once a machine powers itself off. Not Azure: it bills one that is off but allocated.
_OFF_IS_CHEAP = ("aws", "gcp")


@dataclass(frozen=True)
class Way:
    """A command that ends the machine, and how long the machine may take to go once the command was carried out."""

    text: str
    command: list[str]
    patience_s: float = _PATIENCE_S


def ways_to_end(order: Order, *, slurm_job: str | None, tried_s: float, python: str) -> list[Way]:
    """Return the ways to end the machine, the gentlest first, where they have been tried for `tried_s` seconds. Pure.

    `python` is the path of SkyPilot's own Python on the machine; `slurm_job` is None where the machine is not Slurm's.
    """
    if order.ending == MachineEnding.COMMAND:
        assert order.end_command is not None, "an order with this ending names the command"
        return [Way(f"end the machine by `{order.end_command}`", ["sh", "-c", order.end_command], _COMMAND_PATIENCE_S)]
    terminate = Way("let SkyPilot end the machine", [python, "-c", TERMINATE])
    if slurm_job is not None:
        # The signal goes to the batch script, whose exit cleans up after SkyPilot. The second way is by force.
        gently = Way("end the Slurm allocation", ["scancel", "--full", "--signal=TERM", slurm_job])
        by_force = Way("cancel the Slurm allocation", ["scancel", slurm_job])
        return [gently, by_force, terminate] if order.ending == MachineEnding.SLURM else [terminate, by_force]
    ways = [Way("have skylet end the machine", [python, "-c", ASK_SKYLET], _SKYLET_PATIENCE_S), terminate]
    if order.cloud in _OFF_IS_CHEAP and tried_s >= _POWER_OFF_AFTER_S:
        ways.append(Way("power the machine off", ["sudo", "-n", "poweroff"]))
    return ways


def insist_on_the_end(order: Order, *, say: Callable[[str], None], is_called_off: Callable[[], bool]) -> None:
    """Try each way in turn, again and again, until the machine ends, and this process with it.

    Returns only where `is_called_off` says that somebody else ends the machine. `say` logs each way that has failed.
    """
    began = time.monotonic()
    job = os.environ.get("SLURM_JOB_ID")
    backoff = Backoff(_PAUSES_S)
    while not is_called_off():
        tried_s = time.monotonic() - began
        for way in ways_to_end(order, slurm_job=job, tried_s=tried_s, python=sky_python()):
            failed = try_to_end(way.command)
            if not failed:  # this process ends with the machine; the next lines are for a machine that goes on
                _wait(way.patience_s, is_called_off)
                failed = "it is still up"
            if is_called_off():
                return
            say(f"tried to {way.text}: {failed}")
        _wait(backoff.failed(), is_called_off)


def _wait(seconds: float, is_called_off: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not is_called_off():
        time.sleep(0.5)


def try_to_end(command: list[str], *, timeout_s: float = 120.0) -> str:
    """Run the command; return why it failed, an empty text where it was carried out."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=sky_environment(),
            cwd=Path.home(),
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        return str(err)
    if done.returncode == 0:
        return ""
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
