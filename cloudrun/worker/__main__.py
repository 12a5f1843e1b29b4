"""Run the watchdog by `python -m cloudrun.worker RUN_DIR`, and the attempt by the same command with one word more.

Where SkyPilot starts this command on several machines, all but the first follow the first machine's instructions.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cloudrun.protocol.order import Order, read_order
from cloudrun.protocol.run_folder import Place, RunFolder, place_of
from cloudrun.protocol.words import WorkerCommand
from cloudrun.worker.attempt import Attempt
from cloudrun.worker.holder import begin, hold, watch_detached, watch_here
from cloudrun.worker.node import Node
from cloudrun.worker.status_files import StatusFiles
from cloudrun.worker.watchdog import Watchdog


def main(argv: list[str]) -> int:
    """Run the process that `argv` asks for; return its exit code."""
    run_dir = Path(argv[1]).absolute()
    order = read_order(RunFolder(run_dir).order)
    if argv[2:] == [WorkerCommand.ATTEMPT]:
        return Attempt(run_dir, order, StatusFiles(run_dir)).work()
    rank = int(os.environ.get("SKYPILOT_NODE_RANK", "0")) if order.nodes > 1 else 0
    place = place_of(run_dir, rank)
    if argv[2:3] == [WorkerCommand.WATCH]:  # outside the SkyPilot job, with the lock
        return watch_detached(place, order, int(argv[3]), lambda: _watch(place, order, rank))
    detached = [sys.executable, "-m", "cloudrun.worker", str(run_dir), WorkerCommand.WATCH.value]
    if argv[2:] == [WorkerCommand.BEGIN]:  # before there is a SkyPilot job
        return begin(place, order, detached)
    if order.outlives_its_job:
        return hold(place, order, detached)
    return watch_here(place, order, lambda: _watch(place, order, rank))


def _watch(place: Place, order: Order, rank: int) -> int:
    addresses = os.environ.get("SKYPILOT_NODE_IPS", "127.0.0.1").split()
    if rank:
        return Node(place, order, rank=rank, head=addresses[0]).work()
    return Watchdog(place, order, address=addresses[0]).work()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
