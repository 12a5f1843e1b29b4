"""Fetch what lies in a machine's `out/` as `last.pt`: `... MACHINE RUN_FOLDER HOME`."""

import sys
from pathlib import Path

from cloudrun.stores.download import pull
from cloudrun.stores.node import NodeStore

if __name__ == "__main__":
    store = NodeStore(sys.argv[1], sys.argv[2])
    pull(store, store.entries("out"), lambda _: "last.pt", Path(sys.argv[3]), lambda _: None)
