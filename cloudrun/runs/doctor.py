"""doctor: what a launch needs of this computer, which of it is there, and the next step for what is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cloudrun.errors import UsageError
from cloudrun.runs.programs import SENDING, install_program, sending_program
from cloudrun.text.install import install_command
from cloudrun.text.units import size

_LEAST_FREE_BYTES = 1_000_000_000  # results of one run: two checkpoints of an ensemble, and their copies on the way


class State(StrEnum):
    """Whether something that a launch needs is there."""

    OK = "ok"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked for: what was found, and the next step where it is missing."""

    name: str
    state: State
    found: str
    next_step: str = ""
    for_here: bool = False  # a run on this computer needs it
    for_rented: bool = False  # a run on a rented machine needs it


@dataclass(frozen=True, slots=True)
class CloudsAnswer:
    """What SkyPilot's check of the clouds said; `enabled` is None where it gave no answer, and `why` says why."""

    enabled: tuple[str, ...] | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was looked for, and whether a run can be launched here and on a rented machine (None: not known)."""

    findings: tuple[Finding, ...]

    @property
    def launch_here(self) -> bool | None:
        return _all_there([one.state for one in self.findings if one.for_here])

    @property
    def launch_rented(self) -> bool | None:
        return _all_there([one.state for one in self.findings if one.for_rented])

    @property
    def can_launch(self) -> bool:
        """Return whether a run can be launched anywhere: the exit code of `doctor` says this."""
        return bool(self.launch_here or self.launch_rented)

    @property
    def next_steps(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.next_step for one in self.findings if one.next_step))


def diagnose(home: Path, clouds: CloudsAnswer) -> Diagnosis:
    """Look at this computer. Nothing is imported that takes long, and nothing is asked of the network."""
    programs = [_sending(name) for name in SENDING]
    findings = [_python(), _cloudrun(), _skypilot(), *programs, _git(), _trainer(), *_places(home), _clouds(clouds)]
    return Diagnosis(tuple(findings))


def _python() -> Finding:
    return Finding("Python", State.OK, f"{sys.version.split()[0]}, {sys.executable}")


def _cloudrun() -> Finding:
    return Finding("cloudrun", State.OK, _version("cloudrun-gpu") or "a source tree that is not installed")


def _skypilot() -> Finding:
    found = _version("skypilot")
    if found is None:
        return Finding(
            "SkyPilot", State.MISSING, "not installed in this Python", install_command("runpod"), for_rented=True
        )
    command = shutil.which("sky")
    return Finding("SkyPilot", State.OK, found if command else f"{found}, without the command `sky`", for_rented=True)


def _sending(name: str) -> Finding:
    try:
        return Finding(name, State.OK, sending_program(name), for_rented=True)
    except UsageError as err:
        found = "not installed" if shutil.which(name) is None else err.message
        return Finding(name, State.MISSING, found, err.hint, for_rented=True)


def _git() -> Finding:
    """Look for git, which only a clone of cloudrun needs."""
    path = shutil.which("git")
    if path is None:
        return Finding("git", State.MISSING, "not installed; only a clone needs it", install_program("git"))
    return Finding("git", State.OK, path)


def _trainer() -> Finding:
    """Look for what the bundled trainer needs on this computer, without importing it."""
    missing = [name for name in ("torch", "torchvision", "timm") if importlib.util.find_spec(name) is None]
    if missing:
        return Finding(
            "trainer",
            State.MISSING,
            f"{' and '.join(missing)} not installed: nothing can train on this computer",
            f"{install_command('trainer')}; only for runs on this computer",
            for_here=True,
        )
    return Finding("trainer", State.OK, f"torch {_version('torch')}, timm {_version('timm')}", for_here=True)


def _places(home: Path) -> list[Finding]:
    """Look at the folder of the ledger, the folder where results will lie, and the room on their disks."""
    found = [_home(home)]
    for name, place in (("home disk", _nearest_existing(home)), ("results disk", Path.cwd())):
        try:
            free = shutil.disk_usage(place).free
        except OSError as err:
            found.append(Finding(name, State.UNKNOWN, f"{place}: {err.strerror}"))
            continue
        is_enough = free >= _LEAST_FREE_BYTES
        step = "" if is_enough else f"free some room on the disk of {place}: {size(_LEAST_FREE_BYTES)} at least"
        state = State.OK if is_enough else State.MISSING
        said = f"{size(free)} free at {place}"
        found.append(Finding(name, state, said, step, for_here=True, for_rented=True))
    return found


def _home(home: Path) -> Finding:
    """Try to write into the ledger's folder: without it nothing is launched."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as err:
        step = f"make {home} writable, or name another folder: `export CLOUDRUN_HOME=...`"
        said = f"{home} cannot be written: {err.strerror}"
        return Finding("home folder", State.MISSING, said, step, for_here=True, for_rented=True)
    chosen = " (CLOUDRUN_HOME)" if os.environ.get("CLOUDRUN_HOME") else ""
    return Finding("home folder", State.OK, f"{home}{chosen}", for_here=True, for_rented=True)


def _clouds(clouds: CloudsAnswer) -> Finding:
    if clouds.enabled is None:
        step = "`cloudrun clouds` asks without a limit, and shows SkyPilot's own words"
        return Finding("clouds", State.UNKNOWN, clouds.why, step, for_rented=True)
    if not clouds.enabled:
        step = "`cloudrun clouds` shows what each cloud lacks: an account, a key, or SkyPilot's package for it"
        return Finding("clouds", State.MISSING, "none is enabled", step, for_rented=True)
    return Finding("clouds", State.OK, f"{', '.join(clouds.enabled)} enabled", for_rented=True)


def _all_there(states: Sequence[State]) -> bool | None:
    if State.MISSING in states:
        return False
    return None if State.UNKNOWN in states else True


def _nearest_existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
