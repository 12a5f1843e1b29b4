"""Samples of the machine's use, with a program `nvidia-smi` that stands on PATH as the driver's does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudrun.protocol.machine_use import parse_machine_use
from cloudrun.worker.machine_use import Sampler
from tests.support.orders import an_order

TWO_GPUS = "echo '0, 15, 4096, 81559, 212.50, 61'; echo '1, 97, 70000, 81559, [N/A], 70'"
InstallNvidiaSmi = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstallNvidiaSmi:
    """Put a shell script named nvidia-smi on PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "bin").mkdir()

    def write(script: str) -> None:
        (tmp_path / "bin" / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / "nvidia-smi").chmod(0o755)

    return write


def sampled(out: Path, *, rows: int) -> Sampler:
    """A sampler that has written so many rows."""
    out.mkdir(exist_ok=True)
    sampler = Sampler(out, every_s=0.01)
    until = time.monotonic() + 20
    while not (out / "machine.jsonl").exists() or len(rows_in(out)) < rows:
        assert time.monotonic() < until
        sampler.tend()
        time.sleep(0.005)
    return sampler


def rows_in(out: Path) -> list[str]:
    return (out / "machine.jsonl").read_text().splitlines()


def test_a_row_has_each_gpu_and_the_machine(tmp_path: Path, install: InstallNvidiaSmi) -> None:
    install(TWO_GPUS)
    sampled(tmp_path / "out", rows=1).end()
    first, second = parse_machine_use(rows_in(tmp_path / "out")[0])[0].gpus
    assert (first.use_percent, first.power_w, first.temperature_c) == (15, 212.5, 61)
    assert first.memory_used_bytes == 4096 * 2**20
    assert (second.use_percent, second.power_w) == (97, None)


def test_the_gpus_hidden_from_the_job_are_not_asked(
    tmp_path: Path, install: InstallNvidiaSmi, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(f'echo "$@" > {tmp_path}/asked; {TWO_GPUS}')
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1, 3")
    sampled(tmp_path / "out", rows=1).end()
    assert "--id=1,3" in (tmp_path / "asked").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="the use of the cores is read from /proc")
@pytest.mark.parametrize("script", ["exit 9", "echo 'No devices were found'"])
def test_without_a_gpu_a_row_has_cores_and_memory_and_the_query_is_given_up(
    tmp_path: Path, install: InstallNvidiaSmi, script: str
) -> None:
    install(f"echo x >> {tmp_path}/asked; {script}")
    sampled(tmp_path / "out", rows=5).end()
    row = parse_machine_use(rows_in(tmp_path / "out")[-1])[0]
    assert row.gpus == ()
    assert row.memory_bytes is not None
    assert (tmp_path / "asked").read_text() == "x\n" * 3


def test_a_query_that_hangs_holds_up_nothing(tmp_path: Path, install: InstallNvidiaSmi) -> None:
    install("exec sleep 60")
    (tmp_path / "out").mkdir()
    sampler = Sampler(tmp_path / "out", every_s=0.0)
    began = time.monotonic()
    for _ in range(20):
        sampler.tend()
    assert sampler.end() == []
    assert time.monotonic() - began < 5


def test_a_full_or_missing_folder_ends_nothing(tmp_path: Path, install: InstallNvidiaSmi) -> None:
    install(TWO_GPUS)
    sampler = Sampler(tmp_path / "nowhere", every_s=0.0)
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        sampler.tend()
        time.sleep(0.01)
    assert sampler.end() == []


def test_the_summary_gets_what_was_measured_and_the_idle_gpu_is_named(
    tmp_path: Path, install: InstallNvidiaSmi
) -> None:
    install(TWO_GPUS)
    sampler = sampled(tmp_path / "out", rows=8)
    (tmp_path / "out" / "summary.json").write_text('{"best_epoch": 3}')
    (tmp_path / "out" / "metrics.jsonl").write_text(
        '{"kind": "train", "epoch": 1, "time": "2026-11-28T12:00:00Z", "wait_share": 0.7}\n'
    )
    (said,) = sampler.end()
    assert said.startswith("GPU 0 idled 85% of the training (8 samples); likely cause: steps waited for images 70% ")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["best_epoch"] == 3
    assert summary["machine"]["gpus"][0]["idle_share"] == 0.85
    assert summary["machine"]["idle_cause"].startswith("steps waited for images")


def test_a_summary_that_is_no_object_stays_as_it_is(tmp_path: Path, install: InstallNvidiaSmi) -> None:
    install(TWO_GPUS)
    sampler = sampled(tmp_path / "out", rows=1)
    (tmp_path / "out" / "summary.json").write_text("[1, 2]")
    sampler.end()
    assert (tmp_path / "out" / "summary.json").read_text() == "[1, 2]"


def test_rows_of_an_earlier_attempt_stay_and_are_not_summed_up(tmp_path: Path, install: InstallNvidiaSmi) -> None:
    install(TWO_GPUS)
    sampled(tmp_path / "out", rows=8)
    install("echo '0, 99, 1, 2, 3, 4'")
    assert sampled(tmp_path / "out", rows=16).end() == []


def test_the_worker_samples_while_the_command_runs(tmp_path: Path, install: InstallNvidiaSmi) -> None:
    install(TWO_GPUS)
    (tmp_path / "order.json").write_text(an_order("sleep 6").as_json())
    done = subprocess.run([sys.executable, "-m", "cloudrun.worker", str(tmp_path)], timeout=60, check=False)
    assert done.returncode == 0
    (row,) = parse_machine_use("\n".join(rows_in(tmp_path / "out")))
    assert [gpu.index for gpu in row.gpus] == [0, 1]
