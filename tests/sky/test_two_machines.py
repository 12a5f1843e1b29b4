"""Two machines through SkyPilot itself: rented together, prepared, trained on, and ended together."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.sky.jobs import ENDLESS, launch
from tests.sky.slurm_cluster import SlurmCluster
from tests.support.shell import Shell, images

pytestmark = pytest.mark.sky

TRAINED = """\
name: leaves
gpu: L4:1
nodes: 2
infra: slurm
data: {source: more}
train:
  {backbones: [test_resnet], pretrained: false, image_size: 32, epochs: 2, warmup_epochs: 1, batch_size: 16,
  device: cpu}
"""


def worker_of(run_id: str, rank: int) -> int:
    """The process that leads or follows on machine `rank`: not its attempt."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            named = f"SKYPILOT_NODE_RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if named and words[1:3] == [b"-m", b"cloudrun.worker"] and words[-1].endswith(run_id.encode()):
            return int(folder.name)
    raise AssertionError(f"no worker of {run_id} on machine {rank}")


def wait_for_log(shell: Shell, run_id: str, *texts: str, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not all(text in shell("logs", "--no-follow", run_id).out for text in texts):
        assert time.monotonic() < until
        time.sleep(0.5)


def test_the_bundled_trainer_trains_on_two_machines(shell: Shell, slurm: SlurmCluster) -> None:
    images(shell.folder / "more" / "train", count=12)
    images(shell.folder / "more" / "test", count=4)
    code, run_id, said = launch(shell, shell.job(TRAINED))
    assert code == 0, said
    home = shell.folder / "runs" / run_id
    log = (home / "log.txt").read_text()
    assert "node 1: ready; waiting for all 2 machines" in log
    assert "2 processes" in log
    assert log.count("epoch 2/2:") == 1
    assert {"checkpoints/best.pt", "checkpoints/last.pt", "metrics.jsonl", "predictions.csv"} < {
        path.relative_to(home).as_posix() for path in home.rglob("*")
    }
    cost = json.loads((home / "cost.json").read_text())
    assert (cost["hourly_usd"], cost["nodes"], cost["is_final"]) == (1.4, 2, True)
    assert cost["skypilot"]["agrees_to_the_cent"]
    assert slurm.squeue() == []
    assert not list(slurm.node_home.glob(f"cloudrun/{run_id}*"))


def test_a_machine_that_is_lost_stops_both_and_the_run_goes_on_on_them(shell: Shell, slurm: SlurmCluster) -> None:
    job = ENDLESS.replace("gpu: A100:1", "gpu: L4:1\nnodes: 2").replace("echo up", "echo up on $CLOUDRUN_NODE_RANK")
    job = job.replace("idle_minutes: 1", "idle_minutes: 10")
    code, run_id, said = launch(shell, "-d", shell.job(job))
    assert code == 0, said
    wait_for_log(shell, run_id, "up on 0", "node 1: up on 1")
    os.kill(worker_of(run_id, 1), signal.SIGKILL)
    wait_for_log(shell, run_id, "stopped early with a complete checkpoint")
    assert shell("ps", "--refresh", "--json").json[0]["billing"]

    done = shell("resume", "-d", "--yes", run_id, timeout_s=300)
    assert done.code == 0, done.err
    wait_for_log(shell, run_id, "attempt 2", "node 1: attempt 2")
    assert shell("down", run_id, timeout_s=300).code == 0
    home = shell.folder / "runs" / run_id
    assert (home / "checkpoints/last.pt").read_text() == "x\nx\n"
    assert (home / "log.txt").read_text().count("node 1: attempt 1") == 1
    assert slurm.squeue() == []
