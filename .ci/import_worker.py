"""Import every module that runs on a rented machine: with the standard library alone, on Python 3.10 or newer.

python3.10 -I -S .ci/import_worker.py
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path


def main() -> int:
    """Import the modules of `cloudrun.worker` and return the exit code."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    worker = importlib.import_module("cloudrun.worker")
    names = [module.name for module in pkgutil.walk_packages(worker.__path__, "cloudrun.worker.")]
    for name in names:
        if not name.endswith(".__main__"):
            importlib.import_module(name)
    print(f"{len(names)} modules of cloudrun.worker, Python {sys.version.split()[0]}, no package")
    return 0 if names else 1


if __name__ == "__main__":
    sys.exit(main())
