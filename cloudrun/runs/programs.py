"""The programs that send files to a rented machine: which of them this computer has."""

from __future__ import annotations

import re
import shutil
import subprocess

from cloudrun.errors import UsageError

SENDING = ("ssh", "rsync")
"""Programs without which nothing reaches a rented machine."""

_RSYNC = (3, 1)  # the first with `--info=progress2`
_PACKAGES = {"ssh": "openssh-client"}


def refuse_missing_programs() -> None:
    """Raise UsageError where a program that sends files is missing or too old: better before a machine is rented."""
    for name in SENDING:
        sending_program(name)


def sending_program(name: str) -> str:
    """Return where `ssh` or `rsync` is, with rsync's version. Raises UsageError where it is missing or too old."""
    path = shutil.which(name)
    if path is None:
        raise UsageError(
            f"`{name}` is not installed on this computer, and nothing reaches a rented machine without it",
            hint=f"install it: {install_program(_PACKAGES.get(name, name))}",
        )
    return f"{_rsync_version(path)}, {path}" if name == "rsync" else path


def install_program(package: str) -> str:
    """Return how a package of the operating system is installed."""
    return f"`apt-get install {package}` on Debian and Ubuntu, `brew install {package}` on macOS"


def _rsync_version(path: str) -> str:
    """Return the version of rsync. Raises UsageError for one that is too old.

    macOS ships rsync 2.6.9 or openrsync, which know neither the progress nor the lists that transfers rest on.
    """
    done = subprocess.run([path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
    version = re.search(r"^rsync +version v?(\d+)\.(\d+)[\d.]*", said, re.MULTILINE)
    if "openrsync" in said or version is None or (int(version[1]), int(version[2])) < _RSYNC:
        first = said.splitlines()[0].strip() if said else "it does not tell its version"
        raise UsageError(
            f"{path} is too old to send data with ({first}): it has to be 3.1 or newer",
            hint="`brew install rsync` on macOS, then a new terminal; `apt-get install rsync` elsewhere",
        )
    return version[0].split()[-1].removeprefix("v")
