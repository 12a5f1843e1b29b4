"""Print `ready`, then add 1 to a field of the run `plants-1`, again and again: `... HOME TIMES FIELD`."""

import sys
from pathlib import Path

from cloudrun.state.ledger import Ledger


def main(home: Path, times: int, field: str) -> None:
    ledger = Ledger(home)
    print("ready", flush=True)
    for _ in range(1, times):
        ledger.update("plants-1", lambda run: run.model_copy(update={field: (getattr(run, field) or 0) + 1}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
