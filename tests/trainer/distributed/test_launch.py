"""`python -m trainer train --processes 2`: what starts the processes, and what becomes of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cloudrun.recipe.train_config import TrainConfig
from tests.support.checkout import CHECKOUT
from tests.support.trainer_runs import CAN_COMPILE, COMPILED, TINY
from trainer.distributed.launch import process_count
from trainer.outputs import checkpoint


@pytest.fixture
def started(tmp_path: Path, leaves: Path) -> Iterator["Started"]:
    """A run of two processes that would go on for minutes, past its first step."""
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**TINY, "epochs": 500, "workers": 1}))
    run = Started(tmp_path, leaves)
    try:
        run.wait_for("epoch 1/500")
        yield run
    finally:
        run.end()


class Started:
    def __init__(self, folder: Path, data: Path, **environment: str) -> None:
        self.out = folder / "out"
        self._log = folder / "log"
        command = [sys.executable, "-m", "trainer", "train", "--processes", "2", "--config", str(folder / "c.yaml")]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--data", str(data), "--out", str(self.out)],
                cwd=CHECKOUT,
                env={**os.environ, **environment},
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 100
        while text not in self.log:
            assert time.monotonic() < deadline, self.log
            assert self.process.poll() is None, self.log
            time.sleep(0.05)

    def children(self) -> list[int]:
        """Process ids of everything below the one that was started."""
        parents = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found[1:]

    def ranks(self) -> list[int]:
        """The two that train, in their order."""
        ranks = {}
        for pid in self.children():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                values = Path(f"/proc/{pid}/environ").read_text().split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            environment = dict(value.split("=", 1) for value in values if "=" in value)
            if "RANK" in environment and "train" in words:
                ranks.setdefault(int(environment["RANK"]), pid)
        return [ranks[rank] for rank in sorted(ranks)]

    def wait_until_gone(self, pids: list[int]) -> None:
        deadline = time.monotonic() + 40
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def end(self) -> None:
        for pid in [*self.children(), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_sigterm_ends_all_with_a_complete_checkpoint(started: Started) -> None:
    everyone = started.children()
    started.process.send_signal(signal.SIGTERM)
    assert started.process.wait(60) == 75, started.log  # after 30 s they are killed, which ends with 1
    assert started.log.splitlines()[-1].endswith("last.pt is complete")
    assert "Traceback" not in started.log
    assert checkpoint.load(started.out / "checkpoints" / "last.pt")["epoch"] >= 2
    started.wait_until_gone(everyone)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_stop_before_all_of_them_listen_is_a_stop_and_no_error(tmp_path: Path, leaves: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**TINY, "epochs": 500}))
    run = Started(tmp_path, leaves)
    try:
        deadline = time.monotonic() + 60
        while not run.ranks():  # the first of the two has just been started; importing torch starts others
            assert time.monotonic() < deadline
            time.sleep(0.001)
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(40) == 75, run.log
        assert run.log.splitlines()[-1].startswith("stopped by SIGTERM")
        assert "error:" not in run.log
        assert "Traceback" not in run.log
    finally:
        run.end()


@pytest.mark.skipif(not CAN_COMPILE, reason="needs a C++ compiler and Python's headers")
@pytest.mark.slow
def test_a_stop_while_they_compile_is_a_stop_and_no_error(tmp_path: Path, leaves: Path) -> None:
    config = {**TINY, **COMPILED, "sync_batchnorm": False, "epochs": 500}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    run = Started(tmp_path, leaves, TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"))
    try:
        run.wait_for("compiling, some")
        everyone = run.children()
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(60) == 75, run.log  # they have 30 s, and may or may not have compiled by then
        assert run.log.splitlines()[-1].startswith("stopped by SIGTERM before ")
        assert "error:" not in run.log
        assert "Traceback" not in run.log
        assert checkpoint.load(run.out / "checkpoints" / "last.pt")["step"] == 0
        run.wait_until_gone(everyone)
    finally:
        run.end()


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_one_that_is_killed_is_named_and_none_is_left(started: Started) -> None:
    everyone = started.children()
    os.kill(started.ranks()[1], signal.SIGKILL)
    assert started.process.wait(60) == 1
    assert "error: process 1 of 2 (from 0) was killed by SIGKILL" in started.log
    assert "hint: " in started.log
    assert "Traceback" not in started.log
    started.wait_until_gone(everyone)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_when_what_started_them_is_killed_they_save_and_end(started: Started) -> None:
    everyone = started.children()
    os.kill(started.process.pid, signal.SIGKILL)
    started.process.wait()
    started.wait_until_gone(everyone)
    assert "last.pt is complete" in started.log


def test_an_error_of_all_is_said_once(tmp_path: Path, leaves: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**TINY, "batch_size": 2}))
    command = [sys.executable, "-m", "trainer", "train", "--processes", "2", "--config", str(tmp_path / "c.yaml")]
    done = subprocess.run(
        [*command, "--data", str(leaves), "--out", str(tmp_path / "out")], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert "error: a batch of 2 images cannot be shared by 2 processes: each needs two\n\nhint: set" in done.stderr


@pytest.mark.parametrize(
    ("config", "asked", "environment", "count"),
    [
        ({"device": "cpu"}, None, {}, 1),
        ({"device": "cpu"}, 3, {}, 3),
        ({}, 1, {}, 1),
        ({}, None, {"RANK": "0", "WORLD_SIZE": "4"}, 1),  # torchrun has started the others
    ],
)
def test_how_many_processes(config: dict[str, str], asked: int | None, environment: dict[str, str], count: int) -> None:
    assert process_count(TrainConfig.model_validate(config), asked, environment) == count
