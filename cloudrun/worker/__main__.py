"""`python -m cloudrun.worker RUN_DIR`: the switch, which starts the shift by the same command with a word more."""

from __future__ import annotations

import sys
from pathlib import Path

from cloudrun.worker.journal import Journal
from cloudrun.worker.order import read_order
from cloudrun.worker.shift import Shift
from cloudrun.worker.switch import Switch


def main(argv: list[str]) -> int:
    run_dir = Path(argv[1]).absolute()
    order = read_order(run_dir / "order.json")
    if argv[2:] == ["shift"]:
        return Shift(run_dir, order, Journal(run_dir)).work()
    return Switch(run_dir, order).work()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
