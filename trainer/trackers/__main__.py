"""Follow metrics.jsonl for one tracker: `python -m trainer.trackers NAME OUT RUN_NAME`.

The first line of the standard input has the run's settings as JSON; whatever follows it ends the run.

What fails is said once, in one line; then this process ends, and the run goes on without it.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.trackers.services import SERVICES, Service

_LOOKS_EVERY_S = 1.0
_NO_FIGURES = ("kind", "epoch", "step", "time", "fold")


def main(name: str, out: Path, run_name: str) -> int:
    """Return 0 once all rows are sent, 1 where the tracker has failed."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # they are for the trainer, whose last rows are still to come
    said = os.dup(sys.stderr.fileno())
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(silence, stream.fileno())  # libraries print banners, bars, and addresses
    try:
        service = SERVICES[name](out, run_name, json.loads(sys.stdin.buffer.readline() or b"{}"))
        _follow(service, out / "metrics.jsonl")
        service.close()
    except BaseException as err:  # noqa: BLE001 - a library may raise whatever it likes
        why = str(err).splitlines()[0][:200] if str(err) else type(err).__name__
        if isinstance(err, ModuleNotFoundError):
            why = f"the package `{err.name}` is not installed"
        os.write(said, f"warning: {name} gets no figures of this run: {_without_secrets(why)}\n".encode())
        return 1
    return 0


def _follow(service: Service, path: Path) -> None:
    place, is_last = 0, False
    while not is_last:
        is_last = bool(select.select([sys.stdin], [], [], _LOOKS_EVERY_S)[0])
        content = path.read_bytes() if path.exists() else b""
        place = place if len(content) >= place else 0
        whole = content[place:].rpartition(b"\n")[0]
        place += len(whole) + 1 if whole else 0
        for figures, step in _figures(whole):
            service.send(figures, step=step)


def _figures(lines: bytes) -> Iterator[tuple[dict[str, float], int]]:
    """Yield the figures of each step: its row of train and its row of val together, where both are there."""
    steps: dict[int, dict[str, float]] = {}
    for line in lines.splitlines():
        row: Mapping[str, Any] = json.loads(line)
        found = steps.setdefault(int(row["step"]), {"epoch": float(row["epoch"])})
        for name, value in row.items():
            if name not in _NO_FIGURES and isinstance(value, int | float) and math.isfinite(value):
                found[name if name == "lr" else f"{row['kind']}/{name}"] = float(value)
    for step, figures in steps.items():
        yield figures, step


def _without_secrets(text: str) -> str:
    """Return a message without the value of any variable that may be a key."""
    for name, value in os.environ.items():
        if len(value) >= 6 and any(word in name for word in ("KEY", "TOKEN", "PASSWORD", "SECRET", "URI")):
            text = text.replace(value, f"${name}")
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
