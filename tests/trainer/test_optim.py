"""Learning rates and parameter groups, by equality."""

import pytest
from torch import nn

from trainer.config import TrainConfig
from trainer.optim import Schedule, lr_at, make_optimizer, schedule_of

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


def test_norms_and_biases_do_not_decay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    decayed, kept = make_optimizer(model, TrainConfig(weight_decay=0.01)).param_groups
    assert (decayed["weight_decay"], [one.ndim for one in decayed["params"]]) == (0.01, [4, 2])
    assert (kept["weight_decay"], [one.ndim for one in kept["params"]]) == (0.0, [1, 1, 1, 1])
