"""On Windows itself, a command says at once where cloudrun runs."""

from __future__ import annotations

import subprocess
import sys

START = """
import signal, sys
sys.platform = "win32"
sys.modules["fcntl"] = None  # as on Windows: importing it fails
del signal.SIGHUP
from cloudrun.__main__ import run
sys.argv = ["cloudrun", "ps"]
run()
"""


def test_a_start_on_windows_ends_with_the_next_step_and_no_traceback() -> None:
    said = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, timeout=60)
    assert said.returncode == 1
    assert said.stdout == ""
    assert said.stderr.startswith("error: cloudrun runs on Linux and macOS")
    assert "\n\nhint: install WSL2" in said.stderr
