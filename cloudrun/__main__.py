"""Run the command line, as `cloudrun` or `python -m cloudrun`."""

from __future__ import annotations

import os
import sys

_ON_WINDOWS = """\
error: cloudrun runs on Linux and macOS, and this is Windows itself

hint: install WSL2 in PowerShell, `wsl --install -d Ubuntu-24.04`, and type the commands in Ubuntu's terminal
"""


def run() -> None:
    """Run one command, and exit with its exit code."""
    if sys.platform == "win32":  # before an import of what Windows has not, such as `fcntl`
        sys.stderr.write(_ON_WINDOWS)
        sys.exit(1)
    # Looking for pydantic plugins reads the metadata of every installed package at each start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    from cloudrun.cli.main import main

    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
