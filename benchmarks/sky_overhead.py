"""From a command to the first training step: cloudrun against SkyPilot alone, on a local Slurm (Debian, as root).

`sky launch` and `sky exec` get the same task: the same machine, code, data, set-up and training command.

python -m benchmarks.sky_overhead [ROUNDS]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import yaml

from benchmarks.machine import CHECKOUT, heading
from tests.conftest import images
from tests.sky import slurm_cluster
from tests.sky.slurm_cluster import SlurmCluster

NAMES = ("sky launch", "cloudrun launch", "sky exec", "cloudrun resume")
FIRST_STEP = "first step after"
TRAIN = {
    "backbones": ["test_resnet"],
    "pretrained": False,
    "image_size": 32,
    "epochs": 1,
    "warmup_epochs": 0,
    "device": "cpu",
}


def seconds_to_first_step(command: list[str], cluster: SlurmCluster, folder: Path) -> float:
    """From the start of `command` until it shows the trainer's first step; then it is left to end."""
    began = time.monotonic()
    process = subprocess.Popen(
        command, cwd=folder, env=cluster.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    took, said = None, []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if took is None and FIRST_STEP in line:
            took = time.monotonic() - began
    process.wait()
    if took is None:
        raise RuntimeError(f"{command}: no first step\n{''.join(said)}")
    return took


def prepare(folder: Path) -> None:
    """The same task in two spellings."""
    images(folder / "data", count=30)
    code = folder / "code"
    for package in ("cloudrun", "trainer"):
        shutil.copytree(CHECKOUT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    (code / "train.yaml").write_text(json.dumps(TRAIN))
    base = yaml.safe_load((CHECKOUT / "sky.yaml").read_text())
    run = "$HOME/cloudrun/venv/bin/python -m trainer train --config train.yaml --data ~/data --out ~/out-$RANDOM"
    sky_task = {
        "resources": {"infra": "slurm", "accelerators": "A100:1", "disk_size": 100},
        "workdir": str(code),
        "file_mounts": {"~/data": str(folder / "data")},
        "setup": base["setup"],
        "run": run,
    }
    (folder / "sky.yaml").write_text(yaml.safe_dump(sky_task))
    job = {
        "name": "bench",
        "infra": "slurm",
        "gpu": "A100:1",
        "data": {"source": str(folder / "data")},
        "train": TRAIN,
        "lifecycle": {"on_finish": "keep", "idle_minutes": 30},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))


def main(rounds: int) -> None:
    base = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))
    cluster = slurm_cluster.start(base)
    try:
        folder = base / "client"
        prepare(folder)
        seconds: dict[str, list[float]] = {
            "sky launch": [],
            "cloudrun launch": [],
            "sky exec": [],
            "cloudrun resume": [],
        }
        for number in range(rounds + 1):  # the first round fills the package cache and is not counted
            figures = one_round(f"b{number}", cluster, folder)
            if number:
                for name, took in figures.items():
                    seconds[name].append(took)
            print(number, {name: round(took, 1) for name, took in figures.items()}, file=sys.stderr)
    finally:
        slurm_cluster.stop(base)
    print(f"{heading()}; seconds to the first training step, median of {rounds}, in turn")
    print("| command | s | all |\n| --- | --- | --- |")
    for name, all_took in seconds.items():
        print(f"| `{name}` | {median(all_took):.1f} | {', '.join(f'{took:.1f}' for took in all_took)} |")


def one_round(name: str, cluster: SlurmCluster, folder: Path) -> dict[str, float]:
    """Each machine anew; the environment that an earlier one left in the shared home is removed first."""
    took = {}
    forget_environment(cluster)
    took["sky launch"] = seconds_to_first_step(["sky", "launch", "-y", "-c", name, "sky.yaml"], cluster, folder)
    took["sky exec"] = seconds_to_first_step(["sky", "exec", name, "sky.yaml"], cluster, folder)
    cluster.run("sky", "down", "-y", name)
    forget_environment(cluster)
    took["cloudrun launch"] = seconds_to_first_step(["cloudrun", "launch", "-y", "job.yaml"], cluster, folder)
    run_id = json.loads(cluster.run("cloudrun", "ps", "--json"))[-1]["run_id"]
    # A finished run has nothing left to train: one epoch more.
    took["cloudrun resume"] = seconds_to_first_step(
        ["cloudrun", "resume", "-y", "--set", "train.epochs=2", run_id], cluster, folder
    )
    cluster.run("cloudrun", "down", "--force", "--yes", run_id)
    return took


def forget_environment(cluster: SlurmCluster) -> None:
    shutil.rmtree(cluster.node_home / "cloudrun", ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
