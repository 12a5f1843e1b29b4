"""Run the programs of `tests/support/programs`, and wait for processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.checkout import CHECKOUT


def program(name: str, *arguments: object) -> list[str]:
    """Return the command of a program in `tests/support/programs`, to be run in CHECKOUT."""
    return [sys.executable, "-m", f"tests.support.programs.{name}", *map(str, arguments)]


def run_program(name: str, *arguments: object, stdin: str | None = None) -> str:
    """Return what a program prints; it has to exit with 0."""
    done = subprocess.run(
        program(name, *arguments), cwd=CHECKOUT, input=stdin, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until `condition()` is true; fail after `seconds`."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def has_ended(pid: int) -> bool:
    """Return whether a process is gone, or a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True
