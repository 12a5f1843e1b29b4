"""Write what each figure has to carry: commit, machine and versions."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]


def heading() -> str:
    """Return `commit 1a2b3c4, 2 cores x86_64, Python 3.11.7, skypilot 0.14.1, torch 2.15.0, timm 1.0.31`.

    Works without git, and where a package is missing.
    """
    packages = ", ".join(f"{name} {version_of(name)}" for name in ("skypilot", "torch", "timm"))
    machine = f"{os.cpu_count()} cores {platform.machine()}"
    return f"commit {commit()}, {machine}, Python {platform.python_version()}, {packages}"


def commit() -> str:
    """Return the checkout's commit: git's own word, or CLOUDRUN_COMMIT where there is no git, or `unknown`."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("CLOUDRUN_COMMIT", "unknown")
    return done.stdout.strip()


def version_of(package: str) -> str:
    """Return the installed version of `package`, or `not installed`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
