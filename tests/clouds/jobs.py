"""Jobs that take seconds, and the commands that launch them on a rented machine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clouds.box import Rented
from tests.support.shell import Shell

GPUS = {"aws": "A10G:1", "runpod": "RTX4090:1"}
CLOUDS = list(GPUS)
only_on_aws = pytest.mark.parametrize("cloud", ["aws"], indirect=True, scope="session")
only_on_runpod = pytest.mark.parametrize("cloud", ["runpod"], indirect=True, scope="session")

TRAINED = """\
name: leaves
data: {source: more}
train: {backbones: [test_resnet], pretrained: false, image_size: 32, epochs: 2, warmup_epochs: 1, device: cpu}
"""
QUICK = """\
name: quick
data: {source: leaves}
train: {device: cpu}
lifecycle: {idle_minutes: 1}
run: |
  mkdir -p $CLOUDRUN_OUTPUT/checkpoints
  echo x >> $CLOUDRUN_OUTPUT/checkpoints/last.pt
  echo "attempt $(wc -l < $CLOUDRUN_OUTPUT/checkpoints/last.pt)"
"""
# A signal to the whole process group may end the `sleep` before its shell, which `bash -e` takes for a failure.
ENDLESS = (
    QUICK
    + """\
  trap 'echo saved > $CLOUDRUN_OUTPUT/last.txt; exit 75' TERM
  echo up
  while :; do sleep 0.1 || :; done
"""
)
# The job's first attempt is done at once; its second must be stopped.
KEPT = ENDLESS.replace("idle_minutes: 1", "idle_minutes: 10, on_finish: keep").replace(
    "  echo up\n", "  [ $(wc -l < $CLOUDRUN_OUTPUT/checkpoints/last.pt) = 2 ] || exit 0\n  echo up\n"
)


def on(cloud: str, job: str) -> str:
    """Return the job with the cloud, and with a GPU that can be rented there."""
    return f"infra: {cloud}\ngpu: {GPUS[cloud]}\n{job}"


def launch(shell: Shell, *words: str) -> tuple[int, str, str]:
    """Run `cloudrun launch`; return (exit code, stdout, stderr)."""
    done = shell("launch", "--yes", *words, timeout_s=900)
    return done.code, done.out.strip(), done.err


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> float:
    """Wait until `condition` holds, at most `seconds`; return the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.5)
    return time.monotonic() - began


def assert_receipt_agrees(folder: Path, machine: Rented) -> None:
    """Compare the receipt with the provider's own bill: within 10 s and a cent."""
    cost = json.loads((folder / "cost.json").read_text())
    assert cost["hours"] * 3600 == pytest.approx(machine.seconds(), abs=10)
    assert cost["cost_usd"] == pytest.approx(machine.seconds() / 3600 * cost["hourly_usd"], abs=0.01)
