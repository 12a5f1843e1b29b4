"""Time from a command to the first training step: cloudrun against SkyPilot alone (Debian, as root).

    python -m benchmarks.sky_overhead [--on slurm|aws|runpod] [ROUNDS]

On a local Slurm, or on a stand-in of a provider's API with machines that run. `sky launch` and `sky exec` get the same
task: the same machine, code, data, set-up and training command.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import yaml

from benchmarks.machine import CHECKOUT, heading
from tests.clouds import box
from tests.clouds.jobs import GPUS
from tests.sky import slurm_cluster
from tests.support.shell import images

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


@dataclass(frozen=True)
class Place:
    """Where both rent. `forget` removes an environment that an earlier machine left in a shared home."""

    infra: str
    gpu: str
    env: dict[str, str]
    forget: Callable[[], None]
    stop: Callable[[], None]

    def run(self, *command: str) -> str:
        """Return what a command prints."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout


def place(infra: str, base: Path) -> Place:
    """Start a Slurm cluster, or the box of a cloud, and return it as a place."""
    if infra != "slurm":
        running = box.start(infra, base)
        return Place(infra, GPUS[infra], running.env, lambda: None, running.stop)
    cluster = slurm_cluster.start(base)

    def forget() -> None:
        shutil.rmtree(cluster.node_home / "cloudrun", ignore_errors=True)

    return Place(infra, "A100:1", cluster.env, forget, lambda: slurm_cluster.stop(base))


def seconds_to_first_step(command: list[str], where: Place, folder: Path) -> float:
    """Return the seconds from the start of `command` to the trainer's first step; the command then runs to its end."""
    began = time.monotonic()
    process = subprocess.Popen(
        command, cwd=folder, env=where.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
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


def prepare(folder: Path, where: Place) -> None:
    """Write the same task as SkyPilot's YAML and as a job file."""
    images(folder / "data", count=30)
    code = folder / "code"
    for package in ("cloudrun", "trainer"):
        shutil.copytree(CHECKOUT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    (code / "train.yaml").write_text(json.dumps(TRAIN))
    base = yaml.safe_load((CHECKOUT / "sky.yaml").read_text())
    run = "$HOME/cloudrun/venv/bin/python -m trainer train --config train.yaml --data ~/data --out ~/out-$RANDOM"
    sky_task = {
        "resources": {"infra": where.infra, "accelerators": where.gpu, "disk_size": 100},
        "workdir": str(code),
        "file_mounts": {"~/data": str(folder / "data")},
        "setup": base["setup"],
        "run": run,
    }
    (folder / "sky.yaml").write_text(yaml.safe_dump(sky_task))
    job = {
        "name": "bench",
        "infra": where.infra,
        "gpu": where.gpu,
        "data": {"source": str(folder / "data")},
        "train": TRAIN,
        "lifecycle": {"on_finish": "keep", "idle_minutes": 30},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))


def main(infra: str, rounds: int) -> None:
    base = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))
    where = place(infra, base)
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    try:
        folder = base / "client"
        prepare(folder, where)
        for number in range(rounds + 1):  # the first round fills the package cache and is not counted
            figures = one_round(f"b{number}", where, folder)
            if number:
                for name, took in figures.items():
                    seconds[name].append(took)
            print(number, {name: round(took, 1) for name, took in figures.items()}, file=sys.stderr)
    finally:
        where.stop()
    print(f"{infra}: {heading()}; seconds to the first training step, median of {rounds}, in turn")
    print("| command | s | all |\n| --- | --- | --- |")
    for name, all_took in seconds.items():
        print(f"| `{name}` | {median(all_took):.1f} | {', '.join(f'{took:.1f}' for took in all_took)} |")


def one_round(name: str, where: Place, folder: Path) -> dict[str, float]:
    """Run each command once, each on a new machine; return name -> seconds."""
    took = {}
    where.forget()
    took["sky launch"] = seconds_to_first_step(["sky", "launch", "-y", "-c", name, "sky.yaml"], where, folder)
    took["sky exec"] = seconds_to_first_step(["sky", "exec", name, "sky.yaml"], where, folder)
    where.run("sky", "down", "-y", name)
    where.forget()
    took["cloudrun launch"] = seconds_to_first_step(["cloudrun", "launch", "-y", "job.yaml"], where, folder)
    run_id = json.loads(where.run("cloudrun", "ps", "--json"))[-1]["run_id"]
    # A finished run has nothing left to train: one epoch more.
    took["cloudrun resume"] = seconds_to_first_step(
        ["cloudrun", "resume", "-y", "--set", "train.epochs=2", run_id], where, folder
    )
    where.run("cloudrun", "down", "--force", "--yes", run_id)
    return took


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sky_overhead")
    parser.add_argument("--on", choices=["slurm", "aws", "runpod"], default="slurm")
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    options = parser.parse_args()
    main(options.on, options.rounds)
