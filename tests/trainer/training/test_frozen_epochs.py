"""Frozen epochs: the head learns alone, then the whole network; stopped and resumed in either phase."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cloudrun.recipe.progressive import work_left
from cloudrun.recipe.train_config import TrainConfig, knob_warnings
from tests.support.trainer_runs import Config, StopsAfter, Train, assert_same_run, weights
from trainer.autotune.batch_fit import MemoryProbe
from trainer.autotune.tuning import full_size_epochs
from trainer.errors import StoppedEarly
from trainer.model.ensemble import Ensemble, build_model
from trainer.model.freezing import freeze_backbones
from trainer.model.optim import Schedule, lr_at, schedule_of
from trainer.session.build import build_setup
from trainer.session.setup import TrainingSetup
from trainer.session.step import prepare, train_step


@pytest.fixture
def setup(tiny_config: Config, leaves: Path) -> TrainingSetup:
    made = build_setup(tiny_config(frozen_epochs=1, dropout=0, label_smoothing=0, grad_clip=0), leaves)
    made.model.train()
    made.enter_epoch(1)
    return made


def take_steps(setup: TrainingSetup, count: int) -> None:
    for _ in range(count):
        train_step(setup, next(iter(setup.train_loader.epoch(1))), say=print)


def of_backbones(model: Ensemble) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.backbones.state_dict().items()}


def test_a_frozen_epoch_is_a_linear_probe_of_the_pretrained_features(setup: TrainingSetup) -> None:
    model, config = setup.model, setup.config
    batch = next(iter(setup.train_loader.epoch(1)))
    model.backbones.eval()
    with torch.no_grad():
        features = model.features(prepare(batch, torch.device("cpu"), size=config.image_size))
    head = nn.Linear(features.shape[1], len(setup.dataset.classes))
    head.load_state_dict(model.head.state_dict())
    plain = torch.optim.AdamW(
        [{"params": [head.weight], "weight_decay": config.weight_decay}, {"params": [head.bias], "weight_decay": 0}],
        lr=config.lr,
    )
    for _ in range(3):
        plain.zero_grad()
        functional.cross_entropy(head(features), batch.labels).backward()
        plain.step()
    take_steps(setup, 3)
    torch.testing.assert_close(model.head.weight, head.weight)
    torch.testing.assert_close(model.head.bias, head.bias)


def test_frozen_backbones_stay_as_they_are_and_hold_no_activations(setup: TrainingSetup) -> None:
    before = of_backbones(setup.model)
    take_steps(setup, 2)
    after = of_backbones(setup.model)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in setup.model.backbones.parameters())
    assert setup.model.training
    assert not setup.model.features(torch.zeros(2, 3, 32, 32)).requires_grad


def test_after_the_frozen_epochs_everything_learns(setup: TrainingSetup) -> None:
    take_steps(setup, 1)
    before = of_backbones(setup.model)
    setup.enter_epoch(2)
    take_steps(setup, 1)
    after = of_backbones(setup.model)
    # In a ResNet, the first steps change nothing before the norms that begin with a weight of 0.
    own = [name for name in before if name.startswith("test_efficientnet")]
    assert not [name for name in own if torch.equal(before[name], after[name])]
    assert all(module.training for module in setup.model.modules())


def test_evaluation_between_two_frozen_epochs_leaves_batch_norm_frozen(setup: TrainingSetup) -> None:
    setup.model.eval()
    setup.model.train()
    assert not any(module.training for module in setup.model.backbones.modules())


def test_warm_up_and_cosine_begin_after_the_frozen_epochs() -> None:
    config = TrainConfig(epochs=6, frozen_epochs=2, warmup_epochs=1, lr=1e-3)
    schedule = schedule_of(config, steps_per_epoch=10)
    alone = schedule_of(TrainConfig(epochs=4, warmup_epochs=1, lr=1e-3), steps_per_epoch=10)
    assert [lr_at(step, schedule) for step in range(20)] == [1e-3] * 20
    assert [lr_at(20 + step, schedule) for step in range(41)] == [lr_at(step, alone) for step in range(41)]
    short = schedule_of(TrainConfig(epochs=4, frozen_epochs=2, warmup_epochs=5), steps_per_epoch=10)
    assert short == Schedule(3e-4, warmup_steps=10, steps=40, frozen_steps=20)


def test_the_rate_falls_for_the_averaged_epochs_as_without_frozen_ones() -> None:
    averaged = {"swa_epochs": 2, "swa_lr": 0.1, "warmup_epochs": 1}
    schedule = schedule_of(TrainConfig(epochs=6, frozen_epochs=1, **averaged), steps_per_epoch=10)
    alone = schedule_of(TrainConfig(epochs=5, **averaged), steps_per_epoch=10)
    assert [lr_at(10 + step, schedule) for step in range(50)] == [lr_at(step, alone) for step in range(50)]


@pytest.mark.parametrize("ema_decay", [0, 0.9])
def test_a_run_stopped_in_both_phases_is_the_run_that_never_stopped(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, ema_decay: float
) -> None:
    config = tiny_config(epochs=2, frozen_epochs=1, ema_decay=ema_decay)
    train_quietly(config, leaves, tmp_path / "whole")
    for asked in (2, 4, 3):
        with pytest.raises(StoppedEarly):
            train_quietly(config, leaves, tmp_path / "stopped", StopsAfter(asked))
    train_quietly(config, leaves, tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_the_best_of_a_run_that_ended_frozen_has_the_first_backbones(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train
) -> None:
    config = tiny_config(epochs=2, frozen_epochs=1)
    first = build_setup(config, leaves).model.state_dict()
    with pytest.raises(StoppedEarly):
        train_quietly(config, leaves, tmp_path, StopsAfter(6))
    found = weights(tmp_path)
    changed = {name for name, value in first.items() if not torch.equal(value, found[name])}
    assert changed == {"head.weight", "head.bias"}


def test_memory_is_measured_for_all_weights_also_when_a_frozen_epoch_is_resumed(setup: TrainingSetup) -> None:
    take_steps(setup, 1)
    backbones = sum(parameter.numel() for parameter in setup.model.backbones.parameters())
    assert MemoryProbe(setup, {})._moments_to_come() == 2 * 4 * backbones


def test_what_is_compiled_is_used_after_the_frozen_epochs_alone(setup: TrainingSetup) -> None:
    sizes: list[int] = []

    def compiled(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return setup.model.logits(images)

    setup.model.compiled = compiled
    take_steps(setup, 1)
    assert not sizes
    setup.enter_epoch(2)
    take_steps(setup, 1)
    assert sizes == [8]
    assert full_size_epochs(setup, epoch=1, step=0) == 2


def test_a_thawed_model_computes_all_gradients() -> None:
    model = build_model(TrainConfig(backbones="test_vit", pretrained=False, image_size=32), classes=2)
    freeze_backbones(model, is_frozen=True)
    freeze_backbones(model, is_frozen=False)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_frozen_epochs_count_as_a_third_of_the_work() -> None:
    config = TrainConfig(epochs=4, frozen_epochs=3)
    assert work_left(epoch=1, step=0, steps_per_epoch=6, config=config) == pytest.approx(6 + 3 * 2)


def test_a_run_without_an_epoch_for_the_backbones_is_refused() -> None:
    with pytest.raises(ValueError, match="`frozen_epochs` is 3 of 3 epochs: the backbones would never learn"):
        TrainConfig(epochs=3, frozen_epochs=3)
    lines = knob_warnings(TrainConfig(pretrained=False, frozen_epochs=1))
    assert any("the head learns from random features" in line for line in lines)
