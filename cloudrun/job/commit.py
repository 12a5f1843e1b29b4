"""Name the git commit that a job file, or the code it sends, was launched from."""

from __future__ import annotations

import subprocess
from pathlib import Path

_TIMEOUT_S = 5.0
_SHOWN = 12  # digits of the hash


def commit_of(folder: Path) -> str | None:
    """Return `3fa9c2e17b0a`, or `3fa9c2e17b0a with changes` where tracked files differ from that commit.

    None where git does not keep the folder, has no commit, does not answer within seconds, or is not installed.
    """
    head = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    if not head:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return head[:_SHOWN] + (" with changes" if changed else "")


def _git(folder: Path, *words: str) -> str | None:
    """Return what git says; None where it fails. No lock is taken, and no hook or monitor of the repository is run."""
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(folder), *words]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
