"""Time the quick main job on real photographs, here and through SkyPilot on a local Slurm (Debian, as root).

python -m benchmarks.potato [DATA_FOLDER]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import CHECKOUT, heading
from tests.sky import slurm_cluster

JOB = CHECKOUT / "benchmarks" / "potato.yaml"


def main(data: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="potato-", dir="/tmp"))
    print(f"{heading()}; data {data.name}; one run each")
    print("| command | wall s | training s | test accuracy | cost USD | left in squeue |")
    print("| --- | --- | --- | --- | --- | --- |")
    here = {**os.environ, "CLOUDRUN_HOME": str(folder / "home")}
    took, summary, cost = launch(["--infra", "local"], data, folder, here)
    row("--infra local", took, summary, cost, "-")
    base = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))
    cluster = slurm_cluster.start(base)
    try:
        slurm = {**cluster.env, "CLOUDRUN_HOME": str(folder / "home2")}
        words = ["--infra", "slurm", "--gpu", "A100:1", "--set", "train.device=cpu"]
        took, summary, cost = launch(words, data, folder, slurm)
        row("--infra slurm --gpu A100:1", took, summary, cost, str(len(cluster.squeue())))
    finally:
        slurm_cluster.stop(base)


def launch(
    words: list[str], data: Path, folder: Path, env: dict[str, str]
) -> tuple[float, dict[str, Any], dict[str, Any]]:
    """Launch the job attached; return its wall seconds, summary.json and cost.json."""
    began = time.monotonic()
    command = [sys.executable, "-m", "cloudrun", "launch", "--yes", *words, "--set", f"data.source={data}", str(JOB)]
    done = subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, check=True)
    took = time.monotonic() - began
    home = folder / "runs" / done.stdout.strip()
    summary, cost = (json.loads((home / name).read_text()) for name in ("summary.json", "cost.json"))
    return took, summary, cost


def row(name: str, took: float, summary: dict[str, Any], cost: dict[str, Any], left: str) -> None:
    accuracy, trained = summary["test_accuracy"], summary["train_seconds"]
    print(f"| `launch {name}` | {took:.0f} | {trained:.0f} | {accuracy:.1%} | {cost['cost_usd']:.4f} | {left} |")


if __name__ == "__main__":
    beside = Path(os.environ.get("CLOUDRUN_SHARED", CHECKOUT.parent / "shared")) / "data" / "plantvillage-potato"
    main(Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else beside)
