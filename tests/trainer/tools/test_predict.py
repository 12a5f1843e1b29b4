"""Predict with a run's folder: what it predicted for its own test images, it predicts again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudrun.imagedata.image_list import images_at
from cloudrun.recipe.train_config import TrainConfig
from tests.support.trainer_runs import Train, assert_same_predictions
from trainer.cli import main
from trainer.cross_validation.train_folds import train_folds
from trainer.distributed.stop import StopFlag
from trainer.outputs.progress import SilentProgress
from trainer.stacking.learners import open_learners
from trainer.stacking.stack import stack


def predict(*words: object) -> int:
    return main(["predict", *map(str, words), "--device", "cpu"])


@pytest.fixture(scope="module")
def folds(leaves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two folds, an epoch each."""
    out = tmp_path_factory.mktemp("folds") / "run"
    config = TrainConfig.model_validate(
        {
            "backbones": "test_resnet", "pretrained": False, "image_size": 32, "epochs": 1, "batch_size": 8,
            "warmup_epochs": 0, "device": "cpu", "workers": 0, "folds": 2,
        }
    )  # fmt: skip
    train_folds(config, data=leaves, out=out, stop=StopFlag(), progress=SilentProgress())
    return out


def test_a_run_predicts_its_test_images_as_at_its_end(
    leaves: Path, tmp_path: Path, tiny_config: Callable[..., TrainConfig], train_quietly: Train
) -> None:
    train_quietly(tiny_config(epochs=1, tta="flip", ema_decay=0.5), leaves, tmp_path / "run")
    assert predict("--run", tmp_path / "run", "--data", leaves, "--out", tmp_path / "again.csv") == 0
    assert_same_predictions(tmp_path / "again.csv", tmp_path / "run" / "predictions.csv")
    assert predict("--run", tmp_path / "run", "--data", leaves, "--out", tmp_path / "once.csv", "--tta", "none") == 0
    assert (tmp_path / "once.csv").read_bytes() != (tmp_path / "again.csv").read_bytes()


def test_folds_predict_by_the_mean_of_all(leaves: Path, folds: Path, tmp_path: Path) -> None:
    assert predict("--run", folds, "--data", leaves, "--out", tmp_path / "again.csv") == 0
    assert_same_predictions(tmp_path / "again.csv", folds / "predictions.csv")
    assert predict("--run", folds, "--fold", 1, "--data", leaves, "--out", tmp_path / "one.csv") == 0
    assert_same_predictions(tmp_path / "one.csv", folds / "fold-1" / "predictions.csv")


def test_a_stack_predicts_by_the_method_that_it_chose(
    leaves: Path, folds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folds.parent)
    stack([Path("run")], out=tmp_path / "stack", learners=open_learners(["logistic"]), say=lambda _: None)
    assert predict("--run", tmp_path / "stack", "--data", leaves, "--out", tmp_path / "again.csv") == 0
    assert_same_predictions(tmp_path / "again.csv", tmp_path / "stack" / "predictions.csv")


@pytest.mark.parametrize("chosen", ["logistic", "tempered", "all"])
def test_each_method_of_a_stack_predicts_as_it_did(
    leaves: Path, folds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    monkeypatch.setattr("trainer.stacking.stack.choose", lambda *_: chosen)
    learners = open_learners(["logistic", "lightgbm"])
    stack([folds], out=tmp_path / "stack", learners=learners, say=lambda _: None)
    assert predict("--run", tmp_path / "stack", "--data", leaves, "--out", tmp_path / "again.csv") == 0
    # The folds' files, from which it was made, have six digits.
    assert_same_predictions(tmp_path / "again.csv", tmp_path / "stack" / "predictions.csv", within=1e-4)


def test_folds_that_were_cut_short_are_refused_by_name(
    leaves: Path, folds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = tmp_path / "short"
    shutil.copytree(folds / "fold-0", short / "fold-0")
    assert predict("--run", short, "--data", leaves, "--out", tmp_path / "p.csv") == 1
    assert "has 1 fold(s) that have ended, and no summary.json of them all: the run was cut short" in (
        capsys.readouterr().err
    )
    assert predict("--run", short, "--fold", 0, "--data", leaves, "--out", tmp_path / "p.csv") == 0


def test_a_run_without_a_best_model_is_refused(
    leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert predict("--run", tmp_path / "run", "--data", leaves, "--out", tmp_path / "p.csv") == 1
    assert "best.pt: no epoch was validated" in capsys.readouterr().err


def test_a_single_image_and_a_list_predict_as_the_whole_folder(leaves: Path, folds: Path, tmp_path: Path) -> None:
    image = images_at(leaves).files[3]
    (tmp_path / "ids.csv").write_text(f"id\n{image.stem}\n")
    inside = ("--image-folder", leaves)
    assert predict("--run", folds, "--data", image, "--out", tmp_path / "one.csv") == 0
    assert predict("--run", folds, "--data", tmp_path / "ids.csv", *inside, "--out", tmp_path / "listed.csv") == 0
    (one,) = (tmp_path / "one.csv").read_text().splitlines()[1:]
    (listed,) = (tmp_path / "listed.csv").read_text().splitlines()[1:]
    assert one.split(",")[1:] == listed.split(",")[1:]
    assert listed.split(",")[0] == image.relative_to(leaves).as_posix()
