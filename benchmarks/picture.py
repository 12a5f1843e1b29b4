"""Draw the picture of README.md: a real launch on this computer, in a terminal, with the middle of its log left out.

python -m benchmarks.picture      (`make picture`; some minutes)
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

CHECKOUT = Path(__file__).parents[1]
PICTURE = CHECKOUT / "docs" / "launch.svg"
COMMAND = ("cloudrun", "launch", "--infra", "local", "jobs/demo.yaml")
_COLUMNS = 120
_HEAD_LINES, _TAIL_LINES = 17, 18


def main() -> int:
    """Run the command and write the picture; returns the command's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        code, output = typed_in_a_terminal(COMMAND, Path(folder))
        output = output.replace(folder, "~")
    shown = shortened(lines_of(output), head=_HEAD_LINES, tail=_TAIL_LINES)
    PICTURE.write_text(as_svg([f"$ {' '.join(COMMAND)}", *shown]), encoding="utf-8")
    print(f"{PICTURE.relative_to(CHECKOUT)}: {len(shown)} lines")
    return code


def typed_in_a_terminal(command: Sequence[str], folder: Path) -> tuple[int, str]:
    """Run `command` in `folder` with a terminal and a ledger of its own; return its exit code and its output."""
    shutil.copytree(CHECKOUT / "jobs", folder / "jobs")
    ours, its = pty.openpty()
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("CLOUDRUN_", "NO_COLOR"))},
        "HOME": str(folder), "CLOUDRUN_HOME": str(folder / "home"),
        "PYTHONPATH": str(CHECKOUT), "COLUMNS": str(_COLUMNS), "TERM": "xterm-256color",
    }  # fmt: skip
    words = [sys.executable, "-m", *command]
    process = subprocess.Popen(words, cwd=folder, env=env, stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    written = bytearray()
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux: nobody holds the other end any more
            break
        if not part:
            break
        written += part
    os.close(ours)
    return process.wait(), written.decode("utf-8", errors="replace")


def lines_of(output: str) -> list[str]:
    """Return the lines of a terminal at the end: the last state of each redrawn line, without cursor moves."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-LN-Za-ln-z]", "", output.replace("\r\n", "\n"))
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    return [line for before, line in zip(["", *lines], lines, strict=False) if line or before]


def shortened(lines: list[str], *, head: int, tail: int) -> list[str]:
    """Return the first and the last lines, with three dots where some are left out."""
    while lines and not lines[-1]:
        lines = lines[:-1]
    return lines if len(lines) <= head + tail else [*lines[:head], "...", *lines[-tail:]]


def as_svg(lines: Sequence[str]) -> str:
    """Return a drawing of a terminal that shows `lines`, ANSI colours included; fonts are the reader's own."""
    console = Console(record=True, width=_COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=False, crop=False, highlight=False)
    svg = console.export_svg(title="cloudrun", unique_id="launch")
    svg = re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL)  # they would be loaded from another server
    return svg.replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono")


if __name__ == "__main__":
    sys.exit(main())
