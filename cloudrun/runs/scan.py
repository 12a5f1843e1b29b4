"""Ask the providers for machines of ours, and remember the answer for commands that do not ask."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from cloudrun import atomic
from cloudrun.backends import Backend, Say
from cloudrun.ledger import Ledger
from cloudrun.machines import Machine, Scan, strays
from cloudrun.untrusted import LARGEST_RESULT_BYTES, Unreadable, read_limited

_REMEMBERED = "scan.json"


def scan(ledger: Ledger, backend: Backend) -> Scan:
    """Asked now. What is learned about runs is for `refresh`: this is about machines."""
    found = backend.scan()
    ledger.home.mkdir(parents=True, exist_ok=True)
    _remember(found, ledger.home)
    return found


def last_scan(home: Path) -> Scan | None:
    """What was found when they were last asked; None where they never were."""
    try:
        content = read_limited(home / _REMEMBERED, LARGEST_RESULT_BYTES)
        return None if content is None else Scan.model_validate_json(content)
    except (Unreadable, ValidationError):
        return None


def _remember(found: Scan, home: Path) -> None:
    atomic.write(home / _REMEMBERED, found.model_dump_json(indent=1))


def end_stray(machine: Machine, ledger: Ledger, backend: Backend, say: Say) -> None:
    """End a machine that no run is billed for. Raises StillBilling where that can't be proven."""
    say(f"ending {machine.name} on {machine.infra} ...")
    backend.end_machine(machine)
    known = last_scan(ledger.home)
    if known is not None:
        left = tuple(one for one in known.machines if one.name != machine.name)
        _remember(known.model_copy(update={"machines": left}), ledger.home)


def strays_known(ledger: Ledger) -> tuple[Scan | None, list[Machine]]:
    """By the last scan: the machines that the ledger does not account for."""
    known = last_scan(ledger.home)
    return known, strays(known, ledger.all()) if known is not None else []
