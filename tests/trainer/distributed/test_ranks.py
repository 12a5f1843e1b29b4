"""Several processes train one model: as one process would, whatever happens to one of them.

They talk by Gloo over the loopback, as they do on GPUs but for the gradients, which go by NCCL there. They are forked
from a process that has imported torch, so that each takes a moment and not ten seconds.
"""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.support.processes import run_program
from tests.support.trainer_runs import TINY, assert_same_run, rows
from trainer.data.leaves import write_leaves
from trainer.distributed.ranks import PeerLost, check_alike
from trainer.errors import TrainerError


class Runs:
    """Runs to be done one after another in one process that has imported torch."""

    def __init__(self, folder: Path, data: Path) -> None:
        self._folder, self._data = folder, data
        self._list: list[dict[str, Any]] = []

    def add(
        self,
        name: str,
        *,
        processes: int,
        acts: dict[str, Any] | None = None,
        machines: list[Path] | None = None,
        command: str = "train",
        main: int = 0,
        **config: Any,
    ) -> None:
        """`machines`: the data folder of each, a process on each; `main`: which of them is the first."""
        path = self._folder / f"{name}-{len(self._list)}.yaml"
        path.write_text(yaml.safe_dump({**TINY, **config}))
        argv = [command, "--config", str(path), "--data", str(self._data), "--out", str(self._folder / name)]
        folders = [str(one) for one in machines or ()]
        self._list.append({"argv": argv, "processes": processes, "acts": acts or {}, "machines": folders, "main": main})

    def do(self) -> list[list[int]]:
        """The exit codes of each run's processes."""
        printed = run_program("train_together", stdin=json.dumps(self._list))
        return [[int(code) for code in line.split()] for line in printed.splitlines()]


def log(out: Path, rank: int = 0) -> str:
    return out.with_name(f"{out.name}.rank-{rank}.log").read_text()


@pytest.fixture(scope="module")
def odd_leaves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """33 train, 13 val and 13 test images: no number of processes divides them."""
    folder = tmp_path_factory.mktemp("data") / "leaves"
    write_leaves(folder, train=33, val=13, test=13, size=48)
    return folder


# No batch norm and no dropout: what each image gives does not depend on those beside it.
PLAIN = {"backbones": ["test_convnext"], "dropout": 0, "lr": 1e-3}


def probabilities(out: Path) -> torch.Tensor:
    with (out / "predictions.csv").open() as file:
        return torch.tensor([[float(cell) for cell in row[3:]] for row in list(csv.reader(file))[1:]])


def assert_nearly_same_run(out: Path, other: Path) -> None:
    """Sums in another order differ in the last digits."""
    for row, others in zip(rows(out), rows(other), strict=True):
        assert row.pop("kind") == others.pop("kind")
        assert row == pytest.approx(others, rel=1e-4, abs=1e-6)
    assert probabilities(out) == pytest.approx(probabilities(other), abs=1e-4)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, odd_leaves: Path) -> Path:
    """All runs that the tests look at."""
    folder = tmp_path_factory.mktemp("ranks")
    runs = Runs(folder, odd_leaves)
    averaged = {"swa_epochs": 2, "soup": 3, "metric": "log_loss"}
    runs.add("averaged-alone", processes=1, **averaged, **PLAIN)
    runs.add("averaged", processes=2, **averaged, **PLAIN)
    keeping = {rank: [["keep_weights", f"{folder}/norms.rank-{rank}"]] for rank in "01"}
    runs.add("averaged-norms", processes=2, acts=keeping, swa_epochs=3)
    runs.add("alone", processes=1, **PLAIN)
    runs.add("two", processes=2, **PLAIN)
    runs.add("three-parts", processes=2, micro_batch=2, **PLAIN)
    small = ["small_buckets", 20_000]
    runs.add("short", processes=2, acts={"0": [small], "1": [small, ["run_out_of_memory_at", 6]]}, **PLAIN)
    runs.add("whole", processes=2, acts={rank: [["keep_weights", f"{folder}/whole.rank-{rank}"]] for rank in "01"})
    runs.add("stopped", processes=2, acts={"1": [["stop_at", 7]]})
    runs.add("stopped", processes=2)
    runs.add("moved", processes=2, acts={"0": [["stop_at", 7]]}, **PLAIN)
    runs.add("moved", processes=1, **PLAIN)
    copy, other = folder / "copy", folder / "other"
    for path in (copy, other):
        shutil.copytree(odd_leaves, path)
    next((other / "train").rglob("*.jpg")).unlink()
    runs.add("machines", processes=2, machines=[odd_leaves, copy], **PLAIN)
    for asked in (14, 3, 0):  # in the second fold's first epoch, soon after, not
        acts = {"1": [["stop_at", asked]]} if asked else {}
        runs.add("folds", processes=2, command="folds", acts=acts, folds=2, **PLAIN)
    runs.add("unlike", processes=2, machines=[odd_leaves, other], **PLAIN)
    runs.add("swapped", processes=2, machines=[odd_leaves, copy], acts={"0": [["stop_at", 7]]}, **PLAIN)
    runs.add("swapped", processes=2, machines=[odd_leaves, copy], main=1, **PLAIN)
    codes = runs.do()
    assert codes[:3] == [[0], [0, 0], [0, 0]]
    assert codes[3:-7] == [[0], [0, 0], [0, 0], [0, 0], [0, 0], [75, 75], [0, 0], [75, 75], [0]]
    assert codes[-7:-2] == [[0, 0], [75, 75], [75, 75], [0, 0], [1, 1]]
    assert codes[-2:] == [[75, 75], [1, 1]]
    return folder


def test_two_processes_learn_what_one_learns(done: Path) -> None:
    assert_nearly_same_run(done / "two", done / "alone")


def test_each_image_is_validated_and_predicted_once_and_in_its_place(done: Path) -> None:
    images = [row.split(",")[0] for row in (done / "two" / "predictions.csv").read_text().splitlines()]
    assert len(images) == 14
    assert images == [row.split(",")[0] for row in (done / "alone" / "predictions.csv").read_text().splitlines()]


def test_two_processes_choose_the_same_average_as_one_does(done: Path) -> None:
    assert_nearly_same_run(done / "averaged", done / "averaged-alone")
    two, one = (json.loads((done / name / "summary.json").read_text())["weights"] for name in
                ("averaged", "averaged-alone"))  # fmt: skip
    assert (two["source"], two["epochs"]) == (one["source"], one["epochs"])
    assert len(two["epochs"]) > 1
    assert two["metric_after"] == pytest.approx(one["metric_after"], rel=1e-4)


def test_averaged_weights_have_the_same_statistics_in_all_processes(done: Path) -> None:
    first, second = (torch.load(done / f"norms.rank-{rank}.weights", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_parts_of_a_share_are_accumulated(done: Path) -> None:
    assert_nearly_same_run(done / "three-parts", done / "alone")


def test_the_log_says_how_the_batch_is_shared_and_is_written_once(done: Path) -> None:
    assert "device: CPU, 1 threads, fp32; 2 processes" in log(done / "two")
    assert "batch: 7, 4 at once in each of 2 processes; 5 steps an epoch" in log(done / "two")
    assert log(done / "two", 1) == ""
    assert json.loads((done / "two" / "summary.json").read_text())["processes"] == 2


def test_where_one_runs_out_of_memory_in_a_backward_pass_all_do_the_step_again(done: Path) -> None:
    assert "out of memory: from here on 2 images at once" in log(done / "short")
    assert_nearly_same_run(done / "short", done / "alone")


def test_one_that_is_asked_to_stop_stops_all_and_resuming_changes_no_bit(done: Path) -> None:
    assert "stopped by SIGTERM in epoch 2/3 after step 2/5" in log(done / "stopped")
    assert_same_run(done / "stopped", done / "whole")


def test_a_run_goes_on_with_another_number_of_processes(done: Path) -> None:
    assert_nearly_same_run(done / "moved", done / "alone")


def test_machines_share_nothing_but_the_network(done: Path) -> None:
    first, second = (done / f"machines.machine-{rank}" for rank in (0, 1))
    assert_nearly_same_run(first, done / "alone")
    assert not second.exists()
    assert "2 processes on 2 machines" in log(done / "machines")


def test_folds_that_were_stopped_twice_judge_each_image_once(done: Path, odd_leaves: Path) -> None:
    assert "fold 0 of 2 is done" in log(done / "folds")
    images = [row.split(",")[0] for row in (done / "folds" / "oof.csv").read_text().splitlines()[1:]]
    assert images == sorted(set(images))
    assert len(images) == 33 + 13
    assert json.loads((done / "folds" / "summary.json").read_text())["out_of_fold"]["images"] == 46
    assert (done / "folds" / "predictions.csv").exists()


def test_machines_in_another_order_do_not_begin_again_unseen(done: Path) -> None:
    assert "error: process 1 has" in log(done / "swapped", 1)
    assert "the same `--node-rank` as before" in log(done / "swapped", 1)
    assert (done / "swapped.machine-0" / "checkpoints" / "last.pt").exists()
    assert not (done / "swapped.machine-1").exists()


def test_machines_with_other_images_do_not_train_together(done: Path) -> None:
    assert "error: the machines of this run hold different images" in log(done / "unlike")


def test_after_a_step_all_processes_hold_the_same_weights_and_statistics(done: Path) -> None:
    one, other = (torch.load(done / f"whole.rank-{rank}.weights") for rank in (0, 1))
    assert any(name.endswith("running_mean") for name in one)
    for name, value in one.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, other[name]), name


def test_what_nccl_says_last_is_the_reason() -> None:
    text = (
        "NCCL error in: ProcessGroupNCCL.cpp:3690, unhandled system error (run with NCCL_DEBUG=INFO for details), "
        "NCCL version 2.27.5\nncclSystemError: System call (e.g. socket, malloc) or external library call failed.\n"
        "Last error:\nError while creating shared memory segment /dev/shm/nccl-x (size 9637888)"
    )
    own = PeerLost(text)
    assert own.message.endswith(": Error while creating shared memory segment /dev/shm/nccl-x (size 9637888)")
    assert not own.is_echo
    assert PeerLost(text.replace("ncclSystemError", "ncclRemoteError")).is_echo
    gone = PeerLost("[/pytorch/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4711. More of it")
    assert gone.message == "the processes of this run lost each other: Connection closed by peer"
    assert gone.is_echo


def test_processes_of_which_some_found_no_gpu_do_not_wait_for_each_other() -> None:
    check_alike(["cuda", "cuda"])
    with pytest.raises(TrainerError, match=r"of 3 processes .* found no GPU that works, and the others did: 1$"):
        check_alike(["cuda", "cpu", "cuda"])
