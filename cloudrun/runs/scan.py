"""Ask the providers for machines of ours, and remember the answer for commands that do not ask."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from cloudrun.files import atomic
from cloudrun.files.untrusted import LARGEST_RESULT_BYTES, Unreadable, read_limited
from cloudrun.runs.context import Context
from cloudrun.state.ledger import Ledger
from cloudrun.state.machines import Machine, Scan, orphans

_REMEMBERED = "scan.json"


def scan(context: Context) -> Scan:
    """Ask the providers for machines now, and remember the answer. Records of runs stay: they are for `refresh`."""
    found = context.backend.scan()
    context.state_folder.mkdir(parents=True, exist_ok=True)
    _remember(found, context.state_folder)
    return found


def last_scan(home: Path) -> Scan | None:
    """Return the providers' last answer; None where they were never asked, or where the answer cannot be read."""
    try:
        content = read_limited(home / _REMEMBERED, LARGEST_RESULT_BYTES)
        return None if content is None else Scan.model_validate_json(content)
    except (Unreadable, ValidationError):
        return None


def _remember(found: Scan, home: Path) -> None:
    atomic.write(home / _REMEMBERED, found.model_dump_json(indent=1))


def end_orphan(machine: Machine, context: Context) -> None:
    """End a machine that no run is billed for. Raises StillBilling where that can't be proven."""
    context.say(f"ending {machine.name} on {machine.infra} ...")
    context.backend.end_machine(machine)
    known = last_scan(context.state_folder)
    if known is not None:
        left = tuple(one for one in known.machines if one.name != machine.name)
        _remember(known.model_copy(update={"machines": left}), context.state_folder)


def orphans_known(ledger: Ledger) -> tuple[Scan | None, list[Machine]]:
    """Return the last scan and its orphaned machines; None and none where there was no scan."""
    known = last_scan(ledger.home)
    return known, orphans(known, ledger.all()) if known is not None else []
