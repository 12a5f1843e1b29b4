"""One optimizer step: what of the gradient reaches the weights."""

from pathlib import Path

import pytest
import torch

from tests.support.trainer_runs import Config
from trainer.session.build import build_setup
from trainer.session.step import train_step


def norm_of_gradients(model: torch.nn.Module) -> float:
    return float(torch.stack([one.grad.norm() for one in model.parameters() if one.grad is not None]).norm())


@pytest.mark.parametrize(("limit", "is_shortened"), [(0, False), (1e-3, True), (1000, False)])
def test_a_gradient_is_shortened_to_the_limit_where_there_is_one_and_it_is_longer(
    leaves: Path, tiny_config: Config, limit: float, is_shortened: bool
) -> None:
    setup = build_setup(tiny_config(grad_clip=limit, dropout=0), leaves)
    setup.model.train()
    result = train_step(setup, next(iter(setup.train_loader.epoch(1))), say=print)
    before, after = float(result.gradient_norm), norm_of_gradients(setup.model)
    assert before > 1e-2
    assert after == pytest.approx(limit if is_shortened else before, rel=1e-3)
