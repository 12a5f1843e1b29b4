"""Time the pages of `cloudrun ui` with 500 runs in the ledger: the first answer, and the next ones.

python -m benchmarks.ui [RUNS]
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import threading
import time
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path

from benchmarks.report import made_up_run
from cloudrun.state.ledger import Ledger
from cloudrun.ui.server import Server, serving
from cloudrun.ui.site import Site

_TIMES = 20


def main() -> int:
    """Print milliseconds for each page; CPU time is of server and browser together."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ledger = fill(folder, count)
        with serving(0, lambda: Site(ledger, threading.Event())) as server:
            began = time.monotonic()
            server.site.warm_up()
            print(f"{count} runs read at the start: {1000 * (time.monotonic() - began):.0f} ms")
            for path in ("/", "/?sort=score&order=desc", "/rows?have=", "/receipts", f"/run/{_id(0)}"):
                _print(server, path)
            _touch(ledger)
            _print(server, "/", label="/ with a record written before each", before=lambda: _touch(ledger))
    return 0


def fill(folder: Path, count: int) -> Ledger:
    """Record `count` finished runs, each with a summary at home; the first one has all of its results."""
    ledger, draw = Ledger(folder / "home"), random.Random(0)
    first = made_up_run(folder, _id(0), 0)
    summary = (folder / "runs" / _id(0) / "summary.json").read_bytes()
    ledger.add(first)
    for number in range(1, count):
        home = folder / "runs" / _id(number)
        home.mkdir(parents=True)
        (home / "summary.json").write_bytes(summary)
        before = timedelta(hours=draw.randrange(5000))
        moments = {
            name: value - before
            for name in ("created_at", "billed_from", "released_at", "started_at", "finished_at", "home_at")
            if (value := getattr(first, name)) is not None
        }
        fields = {**first.model_dump(), **moments, "run_id": _id(number), "folder": str(home), "phases": ()}
        ledger.add(type(first).model_validate(fields))
    return ledger


def _id(number: int) -> str:
    return f"seedlings-1127-{number:05}"


def _touch(ledger: Ledger) -> None:
    ledger.update(_id(1), lambda run: run)


def _print(server: Server, path: str, *, label: str = "", before: object = None) -> None:
    took: list[float] = []
    cpu: list[float] = []
    size = 0
    for _ in range(_TIMES):
        if callable(before):
            before()
        began, cpu_began = time.monotonic(), time.process_time()
        connection = HTTPConnection("127.0.0.1", server.access.port, timeout=60)
        connection.request("GET", path, headers={"Cookie": server.access.cookie.partition(";")[0]})
        answer = connection.getresponse()
        size = len(answer.read())
        assert answer.status == 200, answer.status
        took.append(1000 * (time.monotonic() - began))
        cpu.append(1000 * (time.process_time() - cpu_began))
    print(
        f"{label or path}: first {took[0]:.0f} ms, median {statistics.median(took):.0f} ms, "
        f"slowest {max(took):.0f} ms; CPU median {statistics.median(cpu):.0f} ms; {size / 1000:.0f} kB"
    )


if __name__ == "__main__":
    sys.exit(main())
