"""Find the folder in which this computer keeps its state, and look into it quickly for runs that may cost money."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cloudrun.files.untrusted import Unreadable, parse_object, read_limited

LARGEST_RECORD_BYTES = 16_000_000
"""The largest record of the ledger that is read: a run with thousands of attempts has less than a megabyte."""


def home_folder() -> Path:
    """Return `CLOUDRUN_HOME`, else the platform's folder for state that is not to be lost."""
    chosen = os.environ.get("CLOUDRUN_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "cloudrun"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "cloudrun"


def may_bill(home: Path) -> bool:
    """Return whether a record of the ledger may stand for a machine that bills; a damaged record may."""
    for path in (home / "ledger").glob("*.json"):
        try:
            content = read_limited(path, LARGEST_RECORD_BYTES)
            if content is None:
                continue
            record = parse_object(content, largest_bytes=LARGEST_RECORD_BYTES)
            if record["billed_from"] is not None and record["released_at"] is None:
                return True
        except (Unreadable, KeyError):
            return True
    return False
