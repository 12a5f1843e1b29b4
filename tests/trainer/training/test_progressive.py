"""Progressive image size: small at first, and at full size for the last quarter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from cloudrun.recipe.progressive import size_at, work_left, work_of_epoch
from cloudrun.recipe.train_config import TrainConfig
from tests.support.trainer_runs import assert_same_predictions
from trainer.autotune.batch_fit import MemoryProbe
from trainer.errors import TrainerError
from trainer.model.ensemble import Ensemble, build_model
from trainer.outputs.timing import Timing
from trainer.session.build import build_setup
from trainer.tools.predict import predict

Config = Callable[..., TrainConfig]
Train = Callable[..., dict[str, Any]]


def test_images_grow_evenly_and_the_last_quarter_is_at_full_size() -> None:
    config = TrainConfig(image_size=224, start_image_size=128, epochs=12)
    sizes = [size_at(epoch, config) for epoch in range(1, 13)]
    assert sizes == [128, 128, 160, 160, 160, 192, 192, 192, 224, 224, 224, 224]


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 30])
@pytest.mark.parametrize("first", [32, 100, 223, 224])
def test_the_last_epoch_is_always_at_full_size(epochs: int, first: int) -> None:
    config = TrainConfig(image_size=224, start_image_size=first, epochs=epochs)
    sizes = [size_at(epoch, config) for epoch in range(1, epochs + 1)]
    assert sizes[-1] == 224
    assert sizes == sorted(sizes)
    assert min(sizes) >= first


def test_without_it_every_epoch_is_at_full_size() -> None:
    assert {size_at(epoch, TrainConfig(epochs=8)) for epoch in range(1, 9)} == {224}


def test_images_do_not_shrink() -> None:
    with pytest.raises(ValidationError, match="`start_image_size` is 256, and `image_size` 224: images grow"):
        TrainConfig(start_image_size=256)


def test_a_size_on_the_way_that_a_backbone_cannot_take_is_refused_before_training() -> None:
    whole = TrainConfig(backbones=("test_vit",), pretrained=False, image_size=160)
    config = whole.model_copy(update={"start_image_size": 40})  # as of an older timm's list
    with pytest.raises(TrainerError, match="`test_vit` sees patches of 16 px, and 40 px are no multiple"):
        build_model(config, classes=3)


def test_time_left_counts_small_images_as_a_part_of_large_ones() -> None:
    config = TrainConfig(image_size=64, start_image_size=32, epochs=4)
    assert [work_of_epoch(epoch, config) for epoch in range(1, 5)] == [0.25, 0.25, 1.0, 1.0]
    assert work_left(epoch=1, step=4, steps_per_epoch=10, config=config) == 24
    assert work_left(epoch=5, step=0, steps_per_epoch=10, config=config) == 0
    timing = Timing(steps_per_epoch=10)
    for _ in range(10):
        timing.add_step(0.5, work=0.25)
    left = timing.left(epochs=4, steps=24, batch_size=8, val_images=0, images_at_end=0)
    assert (left["timed_s"], left["timed_steps"], left["steps_left"]) == (14.0, 7, 24)


def test_a_run_trains_at_each_size_validates_at_the_last(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, int]] = []
    forward = Ensemble.forward

    def watched(model: Ensemble, images_BCHW: torch.Tensor) -> torch.Tensor:
        seen.append((model.training, images_BCHW.shape[-1]))
        return forward(model, images_BCHW)

    monkeypatch.setattr(Ensemble, "forward", watched)
    config = tiny_config(image_size=64, start_image_size=32, epochs=3, cutmix=1)
    train_quietly(config, leaves, tmp_path / "out")
    trained = [size for training, size in seen if training]
    assert sorted(set(trained)) == [32, 64]
    assert trained == sorted(trained)
    assert {size for training, size in seen if not training} == {64}


def test_the_last_epochs_train_larger_and_evaluation_is_at_its_own_size(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, int]] = []
    forward = Ensemble.forward

    def watched(model: Ensemble, images_BCHW: torch.Tensor) -> torch.Tensor:
        seen.append((model.training, images_BCHW.shape[-1]))
        return forward(model, images_BCHW)

    monkeypatch.setattr(Ensemble, "forward", watched)
    config = tiny_config(image_size=32, final_image_size=48, final_epochs=1, test_image_size=64)
    train_quietly(config, leaves, tmp_path / "out")
    trained = [size for training, size in seen if training]
    assert trained == [32] * 8 + [48] * 4
    assert {size for training, size in seen if not training} == {64}
    del seen[:]
    predict(tmp_path / "out" / "checkpoints" / "best.pt", data=leaves, out=tmp_path / "again.csv", device="cpu")
    assert {size for _, size in seen} == {64}
    assert_same_predictions(tmp_path / "again.csv", tmp_path / "out" / "predictions.csv")


def test_memory_is_searched_at_the_largest_size(leaves: Path, tiny_config: Config) -> None:
    setup = build_setup(tiny_config(final_image_size=64, cache_gb=0), leaves)
    seen: list[int] = []
    handle = setup.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-1]))
    assert MemoryProbe(setup, {}, usable=1).fits(4)
    handle.remove()
    assert set(seen) == {64}
