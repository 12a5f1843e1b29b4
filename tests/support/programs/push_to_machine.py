"""Send a folder to a machine as its data: `... MACHINE RUN_FOLDER FOLDER`."""

import sys
from pathlib import Path

from cloudrun.stores.node import NodeStore

if __name__ == "__main__":
    NodeStore(sys.argv[1], sys.argv[2]).push(Path(sys.argv[3]), "data", lambda *_: None)
