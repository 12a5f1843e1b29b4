"""The main job through SkyPilot itself: provision, sync, train, stream, fetch, down; and everything cut short."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.sky.jobs import COUNTS, ENDLESS, QUICK, launch, read_until
from tests.sky.slurm_cluster import SlurmCluster
from tests.support.checkout import CHECKOUT
from tests.support.shell import Shell, images

pytestmark = pytest.mark.sky


def wait_for(condition: Callable[[], bool], seconds: float) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not happen in time"
        time.sleep(0.5)
    return time.monotonic() - began


def test_the_bundled_trainer_on_a_rented_machine_gives_the_files_of_a_local_run(
    shell: Shell, slurm: SlurmCluster
) -> None:
    job = """\
name: leaves
gpu: [A100:1, RTX4090:1]
resources: {cpus: 8+, memory: 64+}
data: {source: leaves}
train: {backbones: [test_resnet], pretrained: false, image_size: 32, epochs: 2, warmup_epochs: 1, device: cpu}
"""
    images(shell.folder / "more" / "train", count=12)
    images(shell.folder / "more" / "test", count=4)
    job = job.replace("source: leaves", "source: more")
    homes = {}
    for infra in ("local", "slurm"):
        code, run_id, said = launch(shell, "--infra", infra, shell.job(job))
        assert code == 0, said
        assert re.fullmatch(r"leaves-\d{4}-[a-z0-9]{5}", run_id)
        homes[infra] = shell.folder / "runs" / run_id
        assert "epoch 2/2" in (homes[infra] / "log.txt").read_text()
    files = {
        infra: {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
        for infra, home in homes.items()
    }
    assert files["slurm"] == files["local"]
    assert {"checkpoints/best.pt", "checkpoints/last.pt", "metrics.jsonl", "predictions.csv"} < files["slurm"]
    cost = json.loads((homes["slurm"] / "cost.json").read_text())
    assert (cost["hourly_usd"], cost["gpu"], cost["is_final"]) == (1.29, "A100:1", True)
    assert cost["cost_usd"] > 0
    assert slurm.squeue() == []


def test_the_first_gpu_that_can_be_had_is_taken(shell: Shell, slurm: SlurmCluster) -> None:
    code, _, said = launch(shell, "--gpu", "A100:8", "--gpu", "RTX4090:1", shell.job(QUICK))
    assert code == 0, said
    assert shell("cost", "--json").json[0]["gpu"] == "RTX4090:1"


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--gpu", "H100:8"], "there is no H100:8 on slurm"), (["--infra", "aws"], "no cloud is enabled for aws")],
)
def test_a_machine_that_cannot_be_had_ends_with_3_and_costs_nothing(
    shell: Shell, slurm: SlurmCluster, words: list[str], said: str
) -> None:
    code, out, err = launch(shell, *words, shell.job(QUICK))
    assert (code, out) == (3, "")
    assert re.search(rf"^error: {said}.*\n\nhint: .+$", err, re.MULTILINE)
    assert slurm.squeue() == []


def test_a_gpu_that_is_rented_but_not_usable_ends_the_run_at_once(shell: Shell, slurm: SlurmCluster) -> None:
    began = time.monotonic()
    code, _, said = launch(shell, shell.job(QUICK.replace("train: {device: cpu}\n", "")))
    assert code == 1
    assert "A100 was asked for, but nvidia-smi does not run here" in said
    assert slurm.squeue() == []
    phases = {phase["name"]: phase["duration_s"] for phase in shell("cost", "--json").json[0]["phases"]}
    assert phases["verify"] < 30
    assert time.monotonic() - began < 150


def test_a_detached_run_is_stopped_and_brought_home_from_a_new_shell(shell: Shell, slurm: SlurmCluster) -> None:
    code, run_id, said = launch(shell, "-d", shell.job(ENDLESS))
    assert code == 0, said
    assert len(slurm.squeue()) == 1
    wait_for(lambda: "up\n" in shell("logs", "--no-follow").out, 120)
    done = shell("down", timeout_s=300)
    assert done.code == 0, done.err
    assert (shell.folder / "runs" / run_id / "last.txt").read_text() == "saved\n"
    assert slurm.squeue() == []
    assert shell("ps", "--json").json == []
    assert shell("down", run_id, timeout_s=300).code == 0  # idempotent


def test_ctrl_c_while_the_machine_is_rented_leaves_nothing(shell: Shell, slurm: SlurmCluster) -> None:
    process = shell.start("launch", "--yes", shell.job(ENDLESS))
    read_until(process, "renting")
    time.sleep(4)  # in the middle of provisioning
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 130, said
    assert "nothing is billing" in said
    assert slurm.squeue() == []


def test_down_while_the_machine_is_rented_leaves_nothing(shell: Shell, slurm: SlurmCluster) -> None:
    process = shell.start("launch", "--yes", shell.job(ENDLESS))
    read_until(process, "renting")
    time.sleep(3)  # in the middle of provisioning
    done = shell("down", timeout_s=300)
    assert done.code == 0, done.err
    _, said = process.communicate(timeout=240)
    assert process.returncode != 0, said
    assert slurm.squeue() == []
    assert shell("ps", "--json").json == []


@pytest.mark.parametrize("moment", ["renting", "machine is up", "data sent"])
def test_a_launch_that_is_killed_leaves_a_run_that_down_can_end(shell: Shell, slurm: SlurmCluster, moment: str) -> None:
    process = shell.start("launch", "--yes", shell.job(ENDLESS))
    read_until(process, moment)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert shell("ps", "--json").json[0]["billing"] is True
    wait_for(lambda: shell("down", timeout_s=300).code == 0, 240)
    assert slurm.squeue() == []


def test_a_machine_that_is_taken_away_with_notice_saves_and_its_results_are_home(
    shell: Shell, slurm: SlurmCluster
) -> None:
    process = shell.start("launch", "--yes", shell.job(ENDLESS))
    read_until(process, "up\n")
    slurm.scancel()  # SIGTERM first, as a spot machine does
    _, said = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "preempted: the machine is being taken away; stopped early with a complete checkpoint" in said
    (folder,) = (shell.folder / "runs").iterdir()
    assert (folder / "last.txt").read_text() == "saved\n"
    assert shell("ps", "--json").json == []


def test_a_run_whose_machine_is_taken_away_twice_goes_on_by_itself(shell: Shell, slurm: SlurmCluster) -> None:
    process = shell.start("launch", "--yes", shell.job(COUNTS))
    for attempt in (1, 2):
        read_until(process, f"attempt {attempt}\n")
        slurm.scancel()  # SIGTERM first, as a spot machine does
    _, said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    (folder,) = (shell.folder / "runs").iterdir()
    log = (folder / "log.txt").read_text()
    assert [line for line in log.splitlines() if line.startswith("attempt")] == [f"attempt {n}" for n in (1, 2, 3)]
    cost = json.loads((folder / "cost.json").read_text())
    assert (cost["machines"], cost["is_final"]) == (3, True)
    assert slurm.squeue() == []
    assert shell("ps", "--json").json == []


def test_a_machine_that_is_gone_at_once_is_noticed_and_called_lost(shell: Shell, slurm: SlurmCluster) -> None:
    process = shell.start("launch", "--yes", shell.job(ENDLESS))
    read_until(process, "up\n")
    (run_id,) = (row["run_id"] for row in shell("ps", "--json").json)
    subprocess.run(["pkill", "-KILL", "-f", f"cloudrun.worker .*{run_id}"], check=True)
    slurm.scancel()
    _, said = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "lost: it left no result: the machine is gone" in said
    assert shell("ps", "--json").json == []


def test_with_the_laptop_off_the_budget_ends_the_job_and_the_machine_ends_itself(
    shell: Shell, slurm: SlurmCluster
) -> None:
    code, _, said = launch(shell, "-d", "--max-hours", "0.03", shell.job(ENDLESS))  # 108 s of machine
    assert code == 0, said
    took = wait_for(lambda: slurm.squeue() == [], 360)
    assert took < 300
    done = shell("ps", "--refresh", "--json", timeout_s=120)
    assert [row["run_id"] for row in done.json if row["billing"]] == []


def test_a_run_goes_on_where_it_was_on_the_machine_that_is_still_up(shell: Shell, slurm: SlurmCluster) -> None:
    job = shell.job(QUICK.replace("idle_minutes: 1", "idle_minutes: 5, on_finish: keep"))
    code, run_id, said = launch(shell, job)
    assert code == 0, said
    assert "attempt 1" in said
    machines = slurm.squeue()
    done = shell("resume", "--yes", run_id, timeout_s=300)
    assert "attempt 2" in done.err
    assert slurm.squeue() == machines  # the same machine
    assert shell("down", timeout_s=300).code == 0
    assert slurm.squeue() == []


def test_the_base_task_works_alone(slurm: SlurmCluster) -> None:
    command = ["sky", "launch", "--yes", "--cluster", "alone", "--infra", "slurm", "--cpus", "2+", "sky.yaml"]
    # Its work folder is where the command is typed.
    done = subprocess.run(command, env=slurm.env, cwd=CHECKOUT, capture_output=True, text=True, timeout=900)
    assert "test accuracy" in done.stdout, done.stdout + done.stderr
    slurm.run("sky", "down", "--yes", "alone")
