"""The harness itself: SkyPilot rents from it, runs on it, and gives back."""

import pytest

from tests.sky.slurm_cluster import SlurmCluster

pytestmark = pytest.mark.sky


def test_skypilot_rents_a_bare_machine_runs_a_command_and_gives_it_back(slurm: SlurmCluster) -> None:
    slurm.run("sky", "launch", "--yes", "--cluster", "bare", "--gpus", "A100:1", "--cpus", "8+", "--memory", "64+")
    allocated = slurm.squeue()
    said = slurm.run("sky", "exec", "bare", "echo the machine answers")
    slurm.run("sky", "down", "--yes", "bare")
    slurm.wait_until_free()
    assert len(allocated) == 1
    assert "the machine answers" in said


def test_a_machine_taken_away_is_gone_for_skypilot_too(slurm: SlurmCluster) -> None:
    slurm.run("sky", "launch", "--yes", "--cluster", "taken", "--gpus", "RTX4090:1")
    slurm.scancel("taken")
    slurm.wait_until_free()
    said = slurm.run("sky", "status", "--refresh", "taken")
    assert "Cluster 'taken' not found" in said
