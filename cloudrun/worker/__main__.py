"""`python -m cloudrun.worker RUN_DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

from cloudrun.worker.journal import Journal
from cloudrun.worker.order import read_order
from cloudrun.worker.shift import Shift


def main(argv: list[str]) -> int:
    run_dir = Path(argv[1]).absolute()
    order = read_order(run_dir / "order.json")
    return Shift(run_dir, order, Journal(run_dir)).work()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
