"""Runs with strong augmentation, plain epochs, a sampler and soft labels go on as if they had never been stopped."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cloudrun.recipe.train_config import TrainConfig
from tests.support.trainer_runs import StopsAfter, Train, assert_same_run
from trainer.errors import StoppedEarly


@pytest.mark.parametrize("asked", [2, 9])  # in the first epoch, and in the last, which is plain
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    leaves: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_config: Callable[..., TrainConfig],
    train_quietly: Train,
    asked: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    tested = sorted((leaves / "test").rglob("*.jpg"))[0].relative_to(leaves).as_posix()
    Path("soft.csv").write_text(f"image,healthy,multiple,rust,scab\n{tested},0.1,0.1,0.7,0.1\n")
    config = tiny_config(
        backbones="test_resnet", epochs=2, flips="dihedral", augment="rand", random_erasing=0.5, mixup=0.2,
        plain_epochs=1, sampler="sqrt", soft_labels="soft.csv",
    )  # fmt: skip
    with pytest.raises(StoppedEarly):
        train_quietly(config, leaves, tmp_path / "stopped", StopsAfter(asked))
    train_quietly(config, leaves, tmp_path / "stopped")
    train_quietly(config, leaves, tmp_path / "whole")
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_a_plain_epoch_is_that_of_a_run_without_strong_augmentation(
    leaves: Path, tmp_path: Path, tiny_config: Callable[..., TrainConfig], train_quietly: Train
) -> None:
    common = {"backbones": "test_resnet", "epochs": 1, "crop_scale_min": 0.5}
    plain = tiny_config(**common, augment="rand", random_erasing=1, mixup=1, cutmix=1, plain_epochs=1)
    train_quietly(plain, leaves, tmp_path / "plain")
    train_quietly(tiny_config(**common), leaves, tmp_path / "without")
    assert_same_run(tmp_path / "plain", tmp_path / "without")
