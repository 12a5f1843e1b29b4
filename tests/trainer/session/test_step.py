"""One optimizer step: what of the gradient reaches the weights."""

from pathlib import Path

import pytest
import torch

from tests.support.trainer_runs import Config
from trainer.distributed.ranks import Ranks
from trainer.model.ensemble import build_model
from trainer.session.build import build_setup, shares_norms
from trainer.session.epoch_stats import LossNotFinite, raise_if_scale_is_lost
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


def test_gradients_that_stay_infinite_however_small_the_scale_are_no_training(
    leaves: Path, tiny_config: Config
) -> None:
    setup = build_setup(tiny_config(), leaves)
    setup.model.train()
    setup.scaler = torch.amp.GradScaler("cpu", enabled=True, init_scale=0.01)
    before = {name: one.detach().clone() for name, one in setup.model.named_parameters()}
    setup.model.head.weight.register_hook(lambda gradient: gradient * float("inf"))
    batch = next(iter(setup.train_loader.epoch(1)))
    for step in range(1, 4):
        train_step(setup, batch, say=print)
        raise_if_scale_is_lost(setup.scaler, step)
    train_step(setup, batch, say=print)
    with pytest.raises(LossNotFinite, match=r"no step is taken: at step 4 .* scaled by 0.000625"):
        raise_if_scale_is_lost(setup.scaler, 4)
    assert all(torch.equal(one, before[name]) for name, one in setup.model.named_parameters())


@pytest.mark.parametrize(
    ("backbone", "wish", "micro_batch", "is_shared"),
    [
        ("test_resnet", "auto", 15, True),
        ("test_resnet", "auto", 16, False),
        ("test_resnet", True, 64, True),
        ("test_resnet", False, 2, False),
        ("test_convnext", "auto", 8, False),  # it has no batch norm
        ("test_convnext", True, 8, False),
    ],
)
def test_batch_norm_is_shared_where_each_gpu_has_few_images_and_the_model_has_one(
    tiny_config: Config, backbone: str, wish: bool | str, micro_batch: int, is_shared: bool
) -> None:
    config = tiny_config(backbones=backbone, sync_batchnorm=wish)
    model, ranks = build_model(config, classes=2), Ranks(0, 8, 0, 8)
    assert shares_norms(model, config, is_cuda=True, ranks=ranks, micro_batch=micro_batch) == is_shared
