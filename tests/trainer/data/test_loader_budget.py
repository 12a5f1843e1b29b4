"""Loader processes hand over batches in shared memory, of which a container may have little."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.checkout import CHECKOUT
from tests.support.trainer_runs import TINY
from trainer.data.loader_budget import LoaderBudget, loader_budget

MB = 10**6
CAN_MOUNT = (
    sys.platform == "linux"
    and os.geteuid() == 0
    and shutil.which("unshare") is not None
    and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
)


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (10_000 * MB, (15, 4)),
        (1_000 * MB, (15, 2)),
        (500 * MB, (15, 1)),
        (200 * MB, (6, 1)),
        (64 * MB, (2, 1)),
        (40 * MB, (0, 1)),
    ],
)
def test_no_more_batches_are_under_way_than_shared_memory_has_room_for(free: int, expected: tuple[int, int]) -> None:
    found = loader_budget(15, batch_bytes=64 * 3 * 256**2, free=free)
    assert (found.workers, found.prefetch) == expected
    assert (found.shortage is None) == (found.workers == 15)


def test_processes_that_train_together_share_it() -> None:
    assert loader_budget(4, batch_bytes=10 * MB, processes=4, free=500 * MB).workers == 4
    assert loader_budget(4, batch_bytes=10 * MB, processes=8, free=500 * MB).workers == 2


def test_what_needs_no_process_needs_no_memory() -> None:
    assert loader_budget(0, batch_bytes=10 * MB, free=0) == LoaderBudget(0, 4)


# The command that follows, with 16 MB of shared memory.
LITTLE = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=16m tmpfs /dev/shm && exec "$@"', "sh"]
# Four processes would have all 16 batches of 2 MB under way.
LARGE = {**TINY, "backbones": "test_resnet", "image_size": 512, "batch_size": 2, "workers": 4, "epochs": 1}


def train_in_little(module: str, leaves: Path, out: Path) -> "subprocess.CompletedProcess[str]":
    config = out.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(LARGE))
    words = ["train", "--config", str(config), "--data", str(leaves), "--out", str(out)]
    return subprocess.run(
        [*LITTLE, sys.executable, "-m", module, *words], cwd=CHECKOUT, capture_output=True, text=True, timeout=120
    )


@pytest.mark.skipif(not CAN_MOUNT, reason="needs root, to mount a small /dev/shm of its own")
def test_a_run_in_a_container_with_little_shared_memory_trains(leaves: Path, tmp_path: Path) -> None:
    done = train_in_little("trainer", leaves, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    said = "warning: 3 loader process(es): shared memory (/dev/shm) has 17 MB free, and a batch takes 2.1 MB"
    assert said in done.stderr
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["best_epoch"] == 1


@pytest.mark.slow
@pytest.mark.skipif(not CAN_MOUNT, reason="needs root, to mount a small /dev/shm of its own")
def test_a_batch_that_is_lost_where_shared_memory_is_full_is_not_waited_for_for_ever(
    leaves: Path, tmp_path: Path
) -> None:
    done = train_in_little("tests.support.programs.overfill_shared_memory", leaves, tmp_path / "out")
    assert done.returncode == 1, done.stderr
    assert "error: no batch came from the processes that load images in 5 s\n" in done.stderr
