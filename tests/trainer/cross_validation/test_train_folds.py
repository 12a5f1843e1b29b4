"""All folds of a data set trained in turn: what each writes, and what is made of them together."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cloudrun.imagedata.folders import list_dataset
from cloudrun.imagedata.folds import fold_of_each, labelled_files
from cloudrun.recipe.train_config import TrainConfig
from tests.support.trainer_runs import Train
from trainer.cross_validation.train_folds import train_folds
from trainer.distributed.stop import StopFlag
from trainer.errors import ConfigError, StoppedEarly, TrainerError
from trainer.outputs.predictions import read_predictions
from trainer.outputs.progress import Progress
from trainer.session.build import build_setup


def test_a_run_writes_what_it_says_of_its_own_fold(
    leaves: Path, tmp_path: Path, tiny_config: Callable[..., TrainConfig], train_quietly: Train
) -> None:
    config = tiny_config(backbones="test_resnet", epochs=1, folds=4, fold=2)
    summary = train_quietly(config, leaves, tmp_path)
    rows = read_predictions(tmp_path / "oof.csv")
    fold_of = fold_of_each(list_dataset(leaves), folds=4, seed=0)
    assert len(rows.images) == fold_of.count(2) == summary["images"]["val"]
    assert summary["images"]["train"] == 44 - fold_of.count(2)
    assert rows.truth == tuple((Path(image).parent.name,) for image in rows.images)
    right = (rows.probabilities.argmax(1) == rows.wanted.int().argmax(1)).double().mean().item()
    assert right == pytest.approx(summary["val_accuracy"])
    pictured = [json.loads(line)["image"] for line in (tmp_path / "thumbnails.jsonl").read_text().splitlines()]
    assert pictured
    assert set(pictured) <= set(rows.images)


def test_all_folds_together_say_something_of_every_image_once(
    leaves: Path, tmp_path: Path, tiny_config: Callable[..., TrainConfig]
) -> None:
    config = tiny_config(backbones="test_resnet", epochs=1, folds=2)
    said = io.StringIO()
    summary = train_folds(config, data=leaves, out=tmp_path, stop=StopFlag(), progress=Progress(stream=said))
    whole = read_predictions(tmp_path / "oof.csv")
    assert sorted(whole.images) == [path.relative_to(leaves).as_posix() for path, _ in labelled(leaves)]
    parts = [read_predictions(tmp_path / f"fold-{fold}" / "predictions.csv").probabilities for fold in (0, 1)]
    mean = read_predictions(tmp_path / "predictions.csv").probabilities
    assert torch.allclose(mean, sum(parts) / 2, atol=1e-6)
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert summary["out_of_fold"]["images"] == sum(one["images"] for one in summary["per_fold"]) == 44
    assert summary["test"]["images"] == 12
    right = (whole.probabilities.argmax(1) == whole.wanted.int().argmax(1)).double().mean().item()
    assert summary["out_of_fold"]["accuracy"] == pytest.approx(right)


def test_files_that_no_fold_uses_are_counted_once_in_the_summary_of_all(
    leaves: Path, tmp_path: Path, tiny_config: Callable[..., TrainConfig]
) -> None:
    data = shutil.copytree(leaves, tmp_path / "data")
    (data / "notes.doc").touch()
    (data / "holdout" / "x").mkdir(parents=True)
    shutil.copy(next(data.glob("train/*/*.jpg")), data / "holdout" / "x" / "1.jpg")
    shutil.copy(next(data.glob("train/*/*.jpg")), data / "holdout" / "x" / "2.jpg")
    config = tiny_config(backbones="test_resnet", epochs=1, folds=2)
    summary = train_folds(
        config, data=data, out=tmp_path / "out", stop=StopFlag(), progress=Progress(stream=io.StringIO())
    )
    assert summary["unused_files"] == [
        {"reason": "in a folder that is no split", "count": 2, "examples": ["holdout/x/1.jpg", "holdout/x/2.jpg"]},
        {"reason": "hidden files and system files", "count": 1, "examples": [".leaves"]},
        {"reason": "not images (.doc)", "count": 1, "examples": ["notes.doc"]},
    ]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["unused_files"] == summary["unused_files"]


def test_a_fold_that_is_done_is_left_alone_and_the_current_one_goes_on(
    leaves: Path, tmp_path: Path, tiny_config: Callable[..., TrainConfig]
) -> None:
    config = tiny_config(backbones="test_resnet", epochs=1, folds=2)
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    train_folds(config, data=leaves, out=straight, stop=StopFlag(), progress=Progress(stream=io.StringIO()))
    stop = StopFlag()
    with pytest.raises(StoppedEarly):
        train_folds(config, data=leaves, out=stopped, stop=stop, progress=StopsInFold(1, stop))
    assert not (stopped / "summary.json").exists()
    done_at = (stopped / "fold-0" / "oof.csv").stat().st_mtime_ns
    said = io.StringIO()
    train_folds(config, data=leaves, out=stopped, stop=StopFlag(), progress=Progress(stream=said))
    assert "fold 0 of 2 is done" in said.getvalue()
    assert (stopped / "fold-0" / "oof.csv").stat().st_mtime_ns == done_at
    assert f"resumed from {stopped / 'fold-1' / 'checkpoints' / 'last.pt'}" in said.getvalue()
    assert (stopped / "oof.csv").read_bytes() == (straight / "oof.csv").read_bytes()
    assert (stopped / "predictions.csv").read_bytes() == (straight / "predictions.csv").read_bytes()


def test_a_stop_before_the_first_fold_began_leaves_a_checkpoint(
    leaves: Path, tmp_path: Path, tiny_config: Callable[..., TrainConfig]
) -> None:
    stop = StopFlag()
    stop.signal_name = "SIGTERM"  # while images were listed
    quiet = Progress(stream=io.StringIO())
    with pytest.raises(StoppedEarly, match=r"last\.pt is complete"):
        train_folds(tiny_config(epochs=1, folds=2), data=leaves, out=tmp_path, stop=stop, progress=quiet)
    assert (tmp_path / "fold-0" / "checkpoints" / "last.pt").exists()


def test_folds_of_another_config_are_not_mixed_up(
    leaves: Path, tmp_path: Path, tiny_config: Callable[..., TrainConfig]
) -> None:
    config = tiny_config(backbones="test_resnet", epochs=1, folds=2)
    train_folds(config, data=leaves, out=tmp_path, stop=StopFlag(), progress=Progress(stream=io.StringIO()))
    other = config.model_copy(update={"lr": 1e-3})
    with pytest.raises(ConfigError, match=r"`lr` was 0.0003 and is now 0.001"):
        train_folds(other, data=leaves, out=tmp_path, stop=StopFlag(), progress=Progress(stream=io.StringIO()))


def test_a_fold_does_not_go_on_with_other_groups(
    leaves: Path, tmp_path: Path, tiny_config: Callable[..., TrainConfig], train_quietly: Train
) -> None:
    """Images would change sides: what was trained on would judge."""
    data = tmp_path / "data"
    shutil.copytree(leaves, data)
    names = [path.relative_to(data).as_posix() for path, _ in labelled_files(list_dataset(data))]
    plants = [f"{name.split('/')[1]}/{int(Path(name).stem.split('-')[-1]) // 2}" for name in names]
    groups = data / "groups.csv"
    groups.write_text("image,group\n" + "".join(f"{n},{plant}\n" for n, plant in zip(names, plants, strict=True)))
    config = tiny_config(backbones="test_resnet", epochs=1, folds=2, groups="groups.csv")
    train_quietly(config, data, tmp_path / "out")
    groups.write_text("image,group\n" + "".join(f"{name},alone-{name}\n" for name in names))
    with pytest.raises(TrainerError, match="that train and validate differ from those") as caught:
        train_quietly(config.model_copy(update={"epochs": 2}), data, tmp_path / "out")
    assert "the file of groups" in caught.value.hint


def test_where_a_look_at_one_fold_is_enough_it_is_the_first(
    leaves: Path, tiny_config: Callable[..., TrainConfig]
) -> None:
    """For the range test of the learning rate, say."""
    every, first = (build_setup(tiny_config(folds=2, fold=fold), leaves) for fold in ("all", 0))
    assert every.val_files == first.val_files != []
    assert every.train_files == first.train_files


class StopsInFold(Progress):
    """Sends a signal's flag after the first step of one fold."""

    def __init__(self, fold: int, stop: StopFlag) -> None:
        super().__init__(stream=io.StringIO())
        self.fold, self.stop, self.is_there = fold, stop, False

    def say(self, line: str) -> None:
        self.is_there = self.is_there or line.startswith(f"fold {self.fold} of")
        if self.is_there and line.startswith("first step after"):
            self.stop.signal_name = "SIGTERM"


def labelled(folder: Path) -> list[tuple[Path, int]]:
    return sorted(labelled_files(list_dataset(folder)))
