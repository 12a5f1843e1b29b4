"""Real processes, real signals: whatever kills a run, the same command goes on to the same numbers."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.trainer.conftest import CHECKOUT, TINY
from tests.trainer.test_train import Config, Train, assert_same_run

# Forks children that save in a loop, kills each a little later than the one before, and loads what is there.
KILLS_WHILE_SAVING = """
import os, select, signal, sys
from pathlib import Path
import torch
from trainer.outputs import checkpoint
path = Path(sys.argv[1]) / "last.pt"
checkpoint.save({"model": torch.zeros(300_000)}, path)
for kill in range(25):
    child = os.fork()
    if child == 0:
        while True:
            checkpoint.save({"model": torch.full((300_000,), float(kill))}, path)
    select.select([], [], [], 0.001 + kill * 0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    values = checkpoint.load(path)["model"]
    assert values.shape == (300_000,) and len(values.unique()) == 1, kill
print("whole every time")
"""


# Trains three times in processes of their own, forked so that torch is imported once. Each is killed, with
# its loader, as soon as its log has a line that starts so; prints how each ended.
KILLS_WHILE_TRAINING = """
import os, signal, sys
import trainer.training.engine
from trainer.cli import main
for line, kill in (("first step", signal.SIGTERM), ("epoch 2/3:", signal.SIGKILL), ("nothing", signal.SIGKILL)):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(reading)
        os.dup2(writing, 2)
        os._exit(main(["train", "--config", sys.argv[1], "--data", sys.argv[2], "--out", sys.argv[3]]))
    os.close(writing)
    with open(reading) as log:
        for said in log:
            if said.startswith(line):
                os.killpg(child, kill)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def run_python(code: str, *arguments: Path) -> str:
    """What `code` prints, in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**TINY, "workers": 1}))
    return tmp_path / "c.yaml"


def test_sigterm_within_an_epoch_and_sigkill_later_change_no_number(
    config: Path, leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    out = tmp_path / "killed"
    assert run_python(KILLS_WHILE_TRAINING, config, leaves, out).split() == ["75", "-9", "0"]
    train_quietly(tiny_config(), leaves, tmp_path / "whole")
    assert_same_run(out, tmp_path / "whole")


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_is_written_leaves_the_previous_one_whole(tmp_path: Path) -> None:
    assert run_python(KILLS_WHILE_SAVING, tmp_path) == "whole every time\n"
