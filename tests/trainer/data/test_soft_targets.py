"""A teacher's predictions, as this trainer writes them, train a student: with labels, or in place of them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cloudrun.imagedata.dataset import read_dataset
from cloudrun.recipe.train_config import TrainConfig
from tests.support.trainer_runs import Train
from trainer.cross_validation.train_folds import train_folds
from trainer.data.soft_targets import pseudo_labelled, soft_labels_for
from trainer.distributed.stop import StopFlag
from trainer.errors import TrainerError
from trainer.outputs.progress import Progress
from trainer.session.build import build_setup, digest_of
from trainer.session.step import train_step


@pytest.fixture
def files(leaves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with oof.csv of two training images and predictions.csv of one test image; we are in it."""
    monkeypatch.chdir(tmp_path)
    classes = "healthy,multiple,rust,scab"
    trains = [path.relative_to(leaves).as_posix() for path in sorted((leaves / "train").rglob("*.jpg"))]
    tested = [path.relative_to(leaves).as_posix() for path in sorted((leaves / "test").rglob("*.jpg"))]
    rows = [f"{name},rust,healthy,0.1,0.2,0.3,0.4" for name in trains[:2]]
    Path("oof.csv").write_text("\n".join([f"image,label,truth,{classes}", *rows]) + "\n")
    Path("predictions.csv").write_text(f"image,label,confidence,{classes}\n{tested[0]},rust,0.7,0.1,0.1,0.7,0.1\n")
    return tmp_path


def config_of(tiny_config: Callable[..., TrainConfig], **changes: object) -> TrainConfig:
    return tiny_config(
        backbones="test_resnet", epochs=1, soft_labels=["oof.csv", "predictions.csv"], soft_weight=0.25, **changes
    )


def test_batches_carry_the_probabilities_of_their_images(
    leaves: Path, files: Path, tiny_config: Callable[..., TrainConfig]
) -> None:
    setup = build_setup(config_of(tiny_config), leaves)
    assert len(setup.train_files) == 33
    assert setup.soft is not None
    assert (setup.soft.images, setup.soft.pseudo_labelled) == (3, 1)
    soft = torch.cat([batch.soft for batch in setup.train_loader.epoch(1) if batch.soft is not None])
    labels = torch.cat([batch.labels for batch in setup.train_loader.epoch(1)])
    extra = (soft[:, 0] == 1).nonzero().flatten()
    torch.testing.assert_close(soft[extra[0], 1:], torch.tensor([0.1, 0.1, 0.7, 0.1]))
    assert labels[extra[0]] == 2  # the class that the teacher finds most likely
    blended = soft[soft[:, 0] == 0.25]
    torch.testing.assert_close(blended[0, 1:], torch.tensor([0.1, 0.2, 0.3, 0.4]))
    assert int((soft[:, 0] == 0).sum()) == len(soft) - len(extra) - len(blended)


def test_a_step_learns_from_them_in_parts_and_mixed(
    leaves: Path, files: Path, tiny_config: Callable[..., TrainConfig]
) -> None:
    losses = []
    for changes in ({"dropout": 0}, {"dropout": 0, "micro_batch": 3}):
        setup = build_setup(config_of(tiny_config, **changes), leaves)
        setup.model.eval()  # batch norm would see other batches
        batch = next(iter(setup.train_loader.epoch(1)))
        losses.append(float(train_step(setup, batch, say=print).loss_sum))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    setup = build_setup(config_of(tiny_config, mixup=0.4), leaves)
    torch.manual_seed(0)
    assert float(train_step(setup, batch, say=print).loss_sum) > 0


def test_other_probabilities_are_another_run(
    leaves: Path, files: Path, tiny_config: Callable[..., TrainConfig], train_quietly: Train
) -> None:
    config, dataset = config_of(tiny_config), read_dataset(leaves)
    before = digest_of(dataset, config)
    summary = train_quietly(config, leaves, files / "run")
    assert summary["soft_labels"]["pseudo_labelled"] == 1
    assert summary["images"] == {"train": 33, "val": 12, "test": 12}
    text = Path("oof.csv").read_text()
    Path("oof.csv").write_text(text.replace("0.1,0.2,0.3,0.4", "0.4,0.3,0.2,0.1"))
    assert digest_of(dataset, config) != before
    with pytest.raises(TrainerError, match="differ from those"):
        train_quietly(config, leaves, files / "run")


def test_a_pseudo_label_of_several_classes_is_the_nearest_set(
    plants: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_config: Callable[..., TrainConfig]
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = read_dataset(plants, plants / "train.csv")
    image = dataset.splits["test"][0][0].relative_to(plants).as_posix()
    classes = ",".join(dataset.classes)
    Path("soft.csv").write_text(
        f"image,{classes}\n{image},{','.join('0.1' if c == 'healthy' else '0.9' for c in dataset.classes)}\n"
    )
    soft = soft_labels_for(dataset, tiny_config(soft_labels="soft.csv"))
    [(_, label)] = pseudo_labelled(soft, dataset)
    assert {dataset.classes[index] for index in dataset.classes_of(label)} == {"rust", "scab"}


def test_the_files_of_a_run_with_folds_train_a_student(
    leaves: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_config: Callable[..., TrainConfig],
    train_quietly: Train,
) -> None:
    monkeypatch.chdir(tmp_path)
    teacher = tiny_config(backbones="test_resnet", epochs=1, folds=2)
    train_folds(teacher, data=leaves, out=Path("teacher"), stop=StopFlag(), progress=Progress(stream=io.StringIO()))
    student = tiny_config(backbones="test_resnet", epochs=1, soft_labels=["teacher/oof.csv", "teacher/predictions.csv"])
    train_quietly(student, leaves, tmp_path / "student")
    said = json.loads((tmp_path / "student" / "summary.json").read_text())["soft_labels"]
    assert (said["images"], said["pseudo_labelled"]) == (44, 12)  # the 12 of val do not train
    assert said["warnings"] == [
        "soft labels of 12 validation image(s) are not used: these do not train",
        "12 labelled test image(s) train with pseudo-labels, not with their labels",
    ]
