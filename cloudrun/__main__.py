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
    from cloudrun.interrupts import end_at_once

    end_at_once()  # before anything that takes time to load
    # Looking for pydantic plugins reads the metadata of every installed package at each start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    from cloudrun.cli.main import main

    code = main(sys.argv[1:])
    # An interrupt inside of an `exec` (dataclasses use it) makes `python -m` die by SIGINT at its end, whatever became
    # of that interrupt; CPython forgets it at the next `eval`.
    eval("0")
    sys.exit(code)


if __name__ == "__main__":
    run()
