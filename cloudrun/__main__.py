"""Run the command line, as `cloudrun` or `python -m cloudrun`."""

from __future__ import annotations

import os
import sys


def run() -> None:
    """Run one command, and exit with its exit code."""
    # Looking for pydantic plugins reads the metadata of every installed package at each start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    from cloudrun.cli.main import main

    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
