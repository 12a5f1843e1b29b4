"""python -m cloudrun.trainer: run the bundled trainer, in a checkout and where cloudrun is installed.

A checkout has the package `trainer` at its top, and `python -m trainer` there is the same command. An installed
cloudrun has the package's files in `cloudrun/_bundled`, because PyPI's distribution `trainer` owns the top-level name.
Standard library, Python 3.10.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

_PACKAGE = Path(__file__).parent


def trainer_folder() -> Path:
    """Return the folder of the package `trainer` that belongs to this cloudrun."""
    bundled = _PACKAGE / "_bundled" / "trainer"
    return bundled if bundled.is_dir() else _PACKAGE.parent / "trainer"


def main() -> None:
    """Run `python -m trainer` with this process's arguments. Its processes find the same package."""
    place = str(trainer_folder().parent)
    sys.path.insert(0, place)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [place, os.environ.get("PYTHONPATH")]))
    runpy.run_module("trainer", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
