"""Learning rates and parameter groups, by equality."""

import pytest
import torch

from cloudrun.recipe.train_config import TrainConfig
from trainer.model.ensemble import Ensemble, build_model
from trainer.model.optim import Schedule, align_moments, lr_at, make_optimizer, schedule_of, set_lr

SCHEDULE = Schedule(peak_lr=1.0, warmup_steps=4, steps=12)


@pytest.mark.parametrize(
    ("step", "lr"), [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (6, 0.8535533905932737), (8, 0.5), (12, 0.0), (99, 0.0)]
)
def test_the_rate_warms_up_linearly_and_falls_along_a_cosine(step: int, lr: float) -> None:
    assert lr_at(step, SCHEDULE) == pytest.approx(lr, abs=1e-12)


def test_without_warm_up_the_first_step_has_the_peak_rate() -> None:
    assert lr_at(0, Schedule(peak_lr=0.1, warmup_steps=0, steps=10)) == 0.1


def test_at_most_half_of_a_short_run_is_warm_up() -> None:
    assert schedule_of(TrainConfig(epochs=3), steps_per_epoch=10) == Schedule(3e-4, warmup_steps=15, steps=30)
    assert schedule_of(TrainConfig(), steps_per_epoch=10) == Schedule(3e-4, warmup_steps=50, steps=300)


def a_model(*backbones: str) -> Ensemble:
    config = TrainConfig(backbones=backbones, pretrained=False, image_size=32)
    return build_model(config, classes=2)


def test_norms_and_biases_do_not_decay() -> None:
    model = a_model("test_resnet")
    decayed, kept = make_optimizer(model, TrainConfig(weight_decay=0.01)).param_groups
    assert decayed["weight_decay"] == 0.01
    assert {one.ndim for one in decayed["params"]} == {2, 4}
    assert (kept["weight_decay"], {one.ndim for one in kept["params"]}) == (0.0, {1})
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


def rates(model: Ensemble, config: TrainConfig) -> dict[str, float]:
    """Of each parameter by its name, where the schedule says 1."""
    optimizer = make_optimizer(model, config)
    set_lr(optimizer, 1.0)
    by_parameter = {id(one): group["lr"] for group in optimizer.param_groups for one in group["params"]}
    return {name: by_parameter[id(one)] for name, one in model.named_parameters()}


def test_by_default_everything_learns_at_one_rate() -> None:
    assert set(rates(a_model("test_resnet", "test_efficientnet"), TrainConfig()).values()) == {1.0}


def test_backbones_learn_at_their_part_of_the_rate_and_the_head_at_all_of_it() -> None:
    found = rates(a_model("test_resnet"), TrainConfig(backbone_lr=0.1))
    assert {rate for name, rate in found.items() if name.startswith("backbones")} == {0.1}
    assert (found["head.weight"], found["head.bias"]) == (1.0, 1.0)


def test_each_stage_learns_at_its_part_of_the_next_ones_rate() -> None:
    found = rates(a_model("test_resnet"), TrainConfig(layer_decay=0.5, backbone_lr=0.8))
    stages = ["conv1.0.weight", "layer1.0.conv1.weight", "layer2.0.conv1.weight", "layer3.0.conv1.weight",
              "layer4.0.conv1.weight"]  # fmt: skip
    assert [found[f"backbones.test_resnet.{name}"] for name in stages] == [0.05, 0.1, 0.2, 0.4, 0.8]
    assert found["head.weight"] == 1.0


def test_steps_are_the_same_whenever_the_format_changes() -> None:
    """torch's fused AdamW mixes up weights and moments that lie otherwise, silently."""
    ends = {}
    for change_at in (0, 2):
        torch.manual_seed(0)
        filters = torch.nn.Conv2d(3, 4, 3, bias=False)
        optimizer = torch.optim.AdamW(filters.parameters(), lr=0.1, fused=True)
        for step in range(4):
            if step == change_at:
                filters.to(memory_format=torch.channels_last)
                align_moments(optimizer)
            filters.weight.grad = torch.empty_like(filters.weight).copy_(torch.randn(4, 3, 3, 3))
            optimizer.step()
        ends[change_at] = filters.weight.detach()
    assert torch.equal(ends[0], ends[2])
