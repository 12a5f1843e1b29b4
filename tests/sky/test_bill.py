"""The bill, through SkyPilot itself: machines that no ledger knows, launches cut short, two counts of one machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from tests.sky.jobs import ENDLESS, QUICK, launch, read_until
from tests.sky.slurm_cluster import SlurmCluster
from tests.support.seaweedfs import free_ports
from tests.support.shell import Shell

pytestmark = pytest.mark.sky


def interrupted(shell: Shell, moment: str) -> str:
    """Launch, and `kill -9` once it said `moment`; the run's id."""
    process = shell.start("launch", "--yes", shell.job(QUICK))
    read_until(process, moment)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (row,) = shell("ps", "--json").json
    return str(row["run_id"])


def test_a_launch_that_was_cut_short_is_gone_on_with_on_the_machine_that_it_left(
    shell: Shell, slurm: SlurmCluster
) -> None:
    run_id = interrupted(shell, "machine is up")
    machines = slurm.squeue()
    assert "was cut short" in shell("ps").err
    process = shell.start("launch", "--yes", "--set", "lifecycle.on_finish=down", "job.yaml")
    read_until(process, "going on with")
    assert slurm.squeue() == machines  # one run, one machine
    out, _ = process.communicate(timeout=300)
    assert (process.returncode, out.strip()) == (0, run_id)
    assert slurm.squeue() == []


def test_another_launch_ends_what_was_left(shell: Shell, slurm: SlurmCluster) -> None:
    run_id = interrupted(shell, "machine is up")
    shell.job(QUICK.replace("name: quick", "name: other"), "other.yaml")
    code, _, said = launch(shell, "other.yaml")
    assert code == 0, said
    assert f"the launch of {run_id} was cut short" in said
    assert slurm.squeue() == []
    phases = {row["run_id"]: row["phase"] for row in shell("ps", "--all", "--json").json}
    assert phases[run_id] == "stopped"


def test_a_machine_that_no_ledger_knows_is_shown_first_and_can_be_ended(shell: Shell, slurm: SlurmCluster) -> None:
    code, run_id, said = launch(shell, "-d", shell.job(ENDLESS))
    assert code == 0, said
    (shell.home / "ledger").rename(shell.folder / "lost")  # another laptop, or a lost CLOUDRUN_HOME
    name = f"cloudrun-{run_id}"
    shown = shell("ps", "--refresh", timeout_s=120).out
    assert shown.startswith(f"NOT IN THE LEDGER: {name}")
    assert f"cloudrun down {name}" in shown
    done = shell("down", "--all", timeout_s=120)
    assert (done.code, len(slurm.squeue())) == (1, 1)  # nobody was there to be asked
    assert "is still up" in done.err
    done = shell("down", name, timeout_s=120)
    assert (done.code, slurm.squeue()) == (0, []), done.err
    assert shell("ps", "--json").json == []


def test_another_skypilot_that_knows_nothing_closes_no_bill(shell: Shell, slurm: SlurmCluster) -> None:
    code, run_id, said = launch(shell, "-d", shell.job(ENDLESS))
    assert code == 0, said
    ours = dict(shell.env)
    (shell.folder / "stranger" / ".sky").mkdir(parents=True)
    (port,) = free_ports(1)
    shell.env.update(HOME=str(shell.folder / "stranger"), SKYPILOT_API_SERVER_LOCAL_PORT=str(port))
    try:
        assert shell("ps", "--refresh", "--json", timeout_s=200).json[0]["billing"] is True
        done = shell("down", run_id, "--force", "--yes", timeout_s=200)
        assert done.code == 1, done.err
        assert f"the end of machine `cloudrun-{run_id}` is not proven" in done.err
    finally:
        subprocess.run(["sky", "api", "stop"], env=shell.env, capture_output=True, timeout=60)
        shell.env.clear()
        shell.env.update(ours)
    assert len(slurm.squeue()) == 1
    assert shell("down", run_id, timeout_s=300).code == 0
    assert slurm.squeue() == []


def test_our_count_and_skypilots_agree_to_the_cent(shell: Shell, slurm: SlurmCluster) -> None:
    code, run_id, said = launch(shell, shell.job(QUICK))
    assert code == 0, said
    cost = json.loads((shell.folder / "runs" / run_id / "cost.json").read_text())
    assert cost["skypilot"]["agrees_to_the_cent"] is True
    assert abs(cost["skypilot"]["cost_usd"] - cost["cost_usd"]) < 0.01
    assert sum(phase["duration_s"] for phase in cost["phases"]) == pytest.approx(cost["hours"] * 3600, abs=1)


def test_skypilots_own_way_to_end_a_machine_works_from_within(shell: Shell, slurm: SlurmCluster) -> None:
    """What the watchdog does on a cloud; here it ends an allocation, too."""
    words = "None, tried_s=0, python=sky_python())[1].command"
    script = "from cloudrun.worker.ending import *; order = type('', (), dict(ending='skypilot', cloud=''))"
    script += f"; print(try_to_end(ways_to_end(order, slurm_job={words}))"
    job = QUICK.replace("  ls $CLOUDRUN_DATA\n", f'  python3 -c "{script}"\n  sleep 60\n')
    code, _, said = launch(shell, shell.job(job))
    assert code == 1, said
    assert slurm.squeue() == []
