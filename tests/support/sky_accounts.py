"""Accounts with clouds that nobody has: SkyPilot as it is on the computer of a person who enabled them, offline.

What SkyPilot knows of a person is in `~/.sky`: which clouds `sky check` found, and the catalogs that it fetched. Both
are written here, the first by SkyPilot itself, into a home folder of the test's own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.support.checkout import CHECKOUT
from tests.support.processes import program

CATALOGS = CHECKOUT / "tests" / "catalogs" / "v8"


class SkyAccounts:
    """A home folder in which some clouds are enabled."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / ".sky").mkdir(parents=True)
        # SkyPilot fetches no file anew that has no checksum beside it: it takes it for the user's own.
        shutil.copytree(CATALOGS, home / ".sky" / "catalogs" / "v8")
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HF_", "GOOGLE_"))},
            "HOME": str(home),
            "CLOUDRUN_HOME": str(home / "cloudrun"),
            "NO_COLOR": "1",
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            # Nothing listens there: what is not on this computer is asked of nobody.
            **dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9"),
        }

    def enable(self, *clouds: str) -> None:
        self.python("enable_clouds", *clouds)

    def plant(self, path: str, content: str) -> None:
        """Write a file into the home folder."""
        (self.home / path).parent.mkdir(parents=True, exist_ok=True)
        (self.home / path).write_text(content)

    def python(self, name: str, *words: str) -> Any:
        """Run a program of the tests there; return what the last line of its output has as JSON, if anything."""
        done = subprocess.run(
            program(name, *words),
            env=self.env,
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        lines = [line for line in done.stdout.splitlines() if line.startswith(("{", "["))]
        return json.loads(lines[-1]) if lines else None
