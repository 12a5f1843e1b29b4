"""Real processes, real signals: whatever kills a run, the same command goes on to the same numbers."""

from pathlib import Path

import pytest
import yaml

from tests.support.processes import run_program
from tests.support.trainer_runs import TINY, Config, Train, assert_same_run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**TINY, "workers": 1}))
    return tmp_path / "c.yaml"


def test_sigterm_within_an_epoch_and_sigkill_later_change_no_number(
    config: Path, leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    out = tmp_path / "killed"
    assert run_program("kill_while_training", config, leaves, out).split() == ["75", "-9", "0"]
    train_quietly(tiny_config(), leaves, tmp_path / "whole")
    assert_same_run(out, tmp_path / "whole")


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_is_written_leaves_the_previous_one_whole(tmp_path: Path) -> None:
    assert run_program("kill_while_saving", tmp_path) == "whole every time\n"
