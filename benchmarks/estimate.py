"""Measure how near the estimates come: before a first run, after its timed steps, and before a second run like it.

Runs the job twice on this computer, with a ledger of its own (minutes).

python -m benchmarks.estimate [JOB.yaml] [--set ...]
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import CHECKOUT, heading


def main(job: Path, options: list[str]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="estimate-", dir="/tmp"))
    print(f"{heading()}; `{job.name} {' '.join(options)}` on this computer, in turn")
    print("| run | estimate before, s | rests on | corrected, s | actual, s | middle off by | correction off by |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for number in (1, 2):
        run = launch(job, options, folder)
        made, actual_s = run["estimate"], run["actual_s"]
        middle_s, first_s = (made["low_s"] + made["high_s"]) / 2, run["first_correction_s"]
        print(
            f"| {number} | {made['low_s']:.0f} to {made['high_s']:.0f} | {made['rests_on']} | {first_s:.0f} |"
            f" {actual_s:.0f} | {middle_s / actual_s - 1:+.0%} | {first_s / actual_s - 1:+.0%} |"
        )


def launch(job: Path, options: list[str], folder: Path) -> dict[str, Any]:
    """Launch the job attached; return the ledger's record of the run, with its real seconds and its first correction.

    `actual_s` is how long it took, `first_correction_s` what its first timed steps estimated.
    """
    command = [sys.executable, "-m", "cloudrun", "launch", "--yes", "--infra", "local", *options, str(job)]
    env = {**os.environ, "CLOUDRUN_HOME": str(folder / "home")}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True)
    run_id = done.stdout.strip()
    record: dict[str, Any] = json.loads((folder / "home" / "ledger" / f"{run_id}.json").read_text())
    cost = json.loads((folder / "runs" / run_id / "cost.json").read_text())
    said = re.search(r"corrected estimate: (\d+) s in all", done.stderr)
    assert said is not None, done.stderr
    return {**record, "actual_s": cost["hours"] * 3600, "first_correction_s": float(said[1])}


if __name__ == "__main__":
    named = Path(sys.argv[1]) if len(sys.argv) > 1 else CHECKOUT / "jobs" / "demo.yaml"
    main(named.absolute(), sys.argv[2:])
