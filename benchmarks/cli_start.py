"""Measure how long `cloudrun --help` and `cloudrun ps` take to start, against `sky --help`, in turn.

python -m benchmarks.cli_start [ROUNDS]
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.machine import heading

BIN = Path(sys.executable).parent
COMMANDS: dict[str, list[str | Path]] = {
    "sky --help": [BIN / "sky", "--help"],
    "cloudrun --help": [BIN / "cloudrun", "--help"],
    "cloudrun ps": [BIN / "cloudrun", "ps"],
}


def timed(command: list[str | Path], env: dict[str, str]) -> tuple[float, float]:
    """Run the command once; return its wall and CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(rounds: int) -> None:
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    for command in COMMANDS.values():
        timed(command, env)  # writes the byte code
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            runs[name].append(timed(command, env))
    print(f"{heading()}; median of {rounds}, in turn")
    print("| command | wall s | CPU s | CPU against `sky --help` |\n| --- | --- | --- | --- |")
    for name, figures in runs.items():
        ratio = median(cpu / sky for (_, cpu), (_, sky) in zip(figures, runs["sky --help"], strict=True))
        wall, cpu = median(wall for wall, _ in figures), median(cpu for _, cpu in figures)
        print(f"| `{name}` | {wall:.2f} | {cpu:.2f} | {ratio:.3f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
