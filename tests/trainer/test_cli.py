"""`python -m trainer` as a user types it: exit codes, errors and hints."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.checkout import CHECKOUT
from tests.support.trainer_runs import TINY
from trainer.cli import main

CONFIG = yaml.safe_dump(TINY)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG)
    return path


def test_a_missing_data_folder_fails_with_a_hint_and_no_traceback(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["train", "--config", str(config), "--data", str(tmp_path / "none"), "--out", str(tmp_path / "o")])
    assert code == 1
    assert f"error: there is no data folder {tmp_path / 'none'}\n\nhint: " in capsys.readouterr().err


def test_a_bad_config_is_exit_2_and_starts_nothing(
    tmp_path: Path, leaves: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text("epoch: 3\n")
    code = main(["train", "--config", str(tmp_path / "c.yaml"), "--data", str(leaves), "--out", str(tmp_path / "o")])
    assert code == 2
    assert capsys.readouterr().err.endswith("unknown key `epoch`\n\nhint: did you mean `epochs`?\n")
    assert not (tmp_path / "o").exists()


def test_an_unknown_command_is_exit_2() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fly"])
    assert caught.value.code == 2


def test_predicting_with_no_checkpoint_fails_with_a_hint(
    tmp_path: Path, leaves: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "damaged.pt").write_bytes(b"PK")
    (tmp_path / "text.pt").write_text("junk\n")
    problems = {
        "none.pt": "there is no checkpoint",
        "damaged.pt": "is not a checkpoint",
        "text.pt": "is not a checkpoint",
    }
    for name, message in problems.items():
        code = main(
            ["predict", "--checkpoint", str(tmp_path / name), "--data", str(leaves), "--out", str(tmp_path / "p.csv")]
        )
        assert code == 1
        assert message in capsys.readouterr().err


def test_overfit_says_by_its_exit_code_whether_one_batch_was_learned(config: Path, leaves: Path) -> None:
    assert main(["overfit", "--config", str(config), "--data", str(leaves), "--steps", "1"]) == 1


def test_bench_prints_json(config: Path, leaves: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--config", str(config), "--data", str(leaves), "--steps", "2"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) == {"device", "loader_images_per_s", "step_images_per_s", "whole_images_per_s"}


def test_a_wheel_less_checkout_runs_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "leaves", "--out", str(tmp_path / "l"), "--train", "4", "--size", "32"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'l'}\n")
