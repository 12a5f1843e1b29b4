"""The learning rate range test: what it says of curves that are known, and of a model."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cloudrun.recipe.train_config import TrainConfig
from tests.support.trainer_runs import TINY
from trainer.cli import main
from trainer.errors import TrainerError
from trainer.tools.lr_range import HIGHEST_LR, LOWEST_LR, judge, lr_range, rate_at

STEPS = 200
RATES = [rate_at(step, steps=STEPS) for step in range(STEPS)]


def test_the_rate_rises_by_one_factor_from_the_lowest_to_the_highest() -> None:
    assert (RATES[0], RATES[-1]) == pytest.approx((LOWEST_LR, HIGHEST_LR))
    assert RATES[101] / RATES[100] == pytest.approx(RATES[1] / RATES[0])


def test_the_steepest_fall_and_the_rise_after_it_are_found() -> None:
    fall = [(rate, 2 - 1.5 / (1 + (1e-3 / rate) ** 2)) for rate in RATES if rate < 0.1]  # steepest at 1e-3
    rise = [(rate, 0.5 + 100 * rate) for rate in RATES if rate >= 0.1]
    found = judge(fall + rise)
    assert 7e-4 < found.steepest < 1.4e-3
    assert found.diverges is not None
    assert 0.1 < found.diverges < 0.2
    assert found.curve[0] == pytest.approx((RATES[0], fall[0][1]))


def test_a_loss_that_is_not_finite_has_diverged() -> None:
    found = judge([(rate, 1 - place / 400 if place < 120 else math.nan) for place, rate in enumerate(RATES)])
    assert found.diverges == RATES[120]
    with pytest.raises(TrainerError, match="was not finite, or rose, from step 1 on"):
        judge([(rate, math.inf) for rate in RATES])


def test_what_never_rises_does_not_diverge() -> None:
    assert judge([(rate, 1 - place / 400) for place, rate in enumerate(RATES)]).diverges is None


def test_a_model_learns_at_the_rate_that_is_found_and_not_at_the_one_where_it_diverges(
    leaves: Path, tiny_config: Callable[..., TrainConfig]
) -> None:
    said: list[str] = []
    config = tiny_config(backbones="test_resnet", batch_size=16, crop_scale_min=0.5)
    found = lr_range(config, data=leaves, steps=120, say=said.append)
    assert 3e-4 < found.steepest < 3e-2
    assert found.diverges is None or found.diverges > 10 * found.steepest
    level = dict(found.curve)
    before, after = (min(level, key=lambda rate: abs(math.log(rate / at))) for at in (1e-5, 10 * found.steepest))
    assert level[after] < 0.9 * level[before]
    assert said[-2].startswith("the loss falls fastest at")


def test_the_command_prints_one_document(leaves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**TINY, "backbones": "test_resnet"}))
    words = ["lr", "--config", str(tmp_path / "c.yaml"), "--data", str(leaves), "--steps"]
    assert main([*words, "20"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"steepest_lr", "diverges_lr", "curve"}
    with pytest.raises(SystemExit) as caught:
        main([*words, "3"])
    assert caught.value.code == 2
    assert "3 steps are too few" in capsys.readouterr().err
