"""End the machine from within, with nobody else's help; tried in turn until it is gone."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_PATIENCE_S = 25.0
_LONGEST_PAUSE_S = 300.0

# SkyPilot's own way for an idle machine, taken at once: on every cloud where it knows autodown.
_SKYPILOT = """
from sky.skylet import autostop_lib, events
config = autostop_lib.get_autostop_config()
config.down, config.backend = True, config.backend or "cloudvmray"
events.StopEvent()._stop_cluster(config)
"""


def ways_to_end(ending: str) -> Iterator[tuple[str, list[str]]]:
    """(what it does, command) for an infra, the gentlest first."""
    job = os.environ.get("SLURM_JOB_ID")
    if ending == "slurm" and job:
        # To the batch script, whose exit cleans up after SkyPilot; then by force.
        yield "end the Slurm allocation", ["scancel", "--full", "--signal=TERM", job]
        yield "cancel the Slurm allocation", ["scancel", job]
    home = os.environ.get("SKY_RUNTIME_DIR") or str(Path.home())
    yield "let SkyPilot end the machine", [f"{home}/skypilot-runtime/bin/python", "-c", _SKYPILOT]
    if job:
        yield "cancel the Slurm allocation", ["scancel", job]
    else:  # a machine that is off bills no GPU, where it cannot be deleted
        yield "power the machine off", ["sudo", "-n", "poweroff"]


def insist_on_the_end(ending: str, *, say: Callable[[str], None], is_called_off: Callable[[], bool]) -> None:
    """Each way in turn, again and again: the machine ends, and this with it, or somebody else is at it."""
    pause_s = _PATIENCE_S
    while not is_called_off():
        for text, command in ways_to_end(ending):
            failed = try_to_end(command)
            if not failed:
                time.sleep(_PATIENCE_S)  # it ends with the machine; what follows is for one that goes on
                failed = "it is still up"
            say(f"tried to {text}: {failed}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


def try_to_end(command: list[str], *, timeout_s: float = 120.0) -> str:
    """Why it did not work; empty where the command was carried out."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        return str(err)
    if done.returncode == 0:
        return ""
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
