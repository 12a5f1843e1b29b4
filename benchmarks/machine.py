"""What a figure has to carry: commit, machine and versions."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]


def heading() -> str:
    """`commit 1a2b3c4, 2 cores x86_64, Python 3.11.7, skypilot 0.14.1, torch 2.15.0, timm 1.0.31`."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout.strip()
    packages = ", ".join(f"{name} {version(name)}" for name in ("skypilot", "torch", "timm"))
    machine = f"{os.cpu_count()} cores {platform.machine()}"
    return f"commit {commit}, {machine}, Python {platform.python_version()}, {packages}"
