"""Losses against wrong labels, binary cross entropy of a single label, and logit adjustment: against their formulas."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cloudrun.recipe.train_config import TrainConfig
from tests.support.trainer_runs import Config, Train
from trainer.errors import ConfigError
from trainer.model.loss import check_loss, image_losses
from trainer.model.robust_loss import generalized_ce, logit_offsets
from trainer.session.build import build_setup

LOGITS = torch.tensor([[4.0, 0.0, -1.0], [0.5, 0.0, 0.2], [0.0, 3.0, 0.0]])
LABELS = torch.tensor([0, 2, 0])
GIVEN = LOGITS.softmax(1)[torch.arange(3), LABELS]


def losses(**changes: Any) -> Tensor:
    return image_losses(LOGITS, LABELS, TrainConfig(**changes))


@pytest.mark.parametrize("q", [0.3, 0.7, 1.0])
def test_generalized_cross_entropy_is_its_formula(q: float) -> None:
    torch.testing.assert_close(losses(loss="generalized_ce", generalized_ce_q=q), (1 - GIVEN**q) / q)


def test_generalized_cross_entropy_becomes_cross_entropy() -> None:
    expected = functional.cross_entropy(LOGITS, LABELS, reduction="none")
    torch.testing.assert_close(losses(loss="generalized_ce", generalized_ce_q=1e-6), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("labels", [torch.tensor([0]), torch.tensor([1])])
def test_a_surely_right_and_a_surely_wrong_image_have_a_finite_slope(labels: Tensor) -> None:
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    generalized_ce(logits, labels, q=0.7).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_symmetric_cross_entropy_is_its_formula() -> None:
    wanted = functional.one_hot(LABELS, 3).float()
    reverse = -(LOGITS.softmax(1) * torch.where(wanted > 0, 0.0, -4.0)).sum(1)
    smoothed = functional.cross_entropy(LOGITS, LABELS, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(losses(loss="symmetric_ce"), 0.1 * smoothed + reverse)


def test_binary_cross_entropy_is_that_of_every_class() -> None:
    p = LOGITS.sigmoid()
    wanted = functional.one_hot(LABELS, 3) * 0.9 + 0.1 / 3
    expected = -(wanted * p.log() + (1 - wanted) * (1 - p).log()).sum(1)
    torch.testing.assert_close(losses(loss="bce"), expected)


def test_a_wrong_label_pulls_less_than_with_cross_entropy() -> None:
    logits = torch.tensor([[8.0, 0.0, 0.0]])
    pulls = {}
    for loss in ("cross_entropy", "generalized_ce", "symmetric_ce"):
        tried = logits.clone().requires_grad_()
        image_losses(tried, torch.tensor([1]), TrainConfig(loss=loss, label_smoothing=0)).sum().backward()
        pulls[loss] = float(tried.grad.norm())
    assert pulls["generalized_ce"] < 0.1 * pulls["cross_entropy"]
    assert pulls["symmetric_ce"] < 0.2 * pulls["cross_entropy"]


def test_logit_adjustment_adds_the_logarithm_of_each_class_s_share() -> None:
    files = [(Path("a"), 0)] * 6 + [(Path("b"), 1)] * 2
    offsets = logit_offsets(files, TrainConfig(logit_adjustment=2), classes=3)
    torch.testing.assert_close(offsets, 2 * torch.tensor([6 / 9, 2 / 9, 1 / 9]).log())
    assert logit_offsets(files, TrainConfig(), classes=3) is None
    config = TrainConfig(label_smoothing=0)
    expected = functional.cross_entropy(LOGITS + offsets, LABELS, reduction="none")
    torch.testing.assert_close(image_losses(LOGITS, LABELS, config, offsets=offsets), expected)


def test_logit_adjustment_is_of_training_alone(leaves: Path, tiny_config: Config) -> None:
    setup = build_setup(tiny_config(logit_adjustment=1), leaves)
    torch.testing.assert_close(setup.logit_offsets, torch.full((4,), 0.25).log())
    setup.logit_offsets = torch.tensor([1.0, 0.0, 0.0, 0.0])
    logits, labels = torch.zeros(2, 4), torch.tensor([0, 1])
    expected = functional.cross_entropy(logits + setup.logit_offsets, labels, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(setup.image_losses(logits, labels), expected)
    torch.testing.assert_close(setup.targets.losses(logits, labels), torch.full((2,), 4.0).log())


@pytest.mark.parametrize("changes", [{"loss": "bce", "mixup": 0.2}, {"loss": "generalized_ce", "cutmix": 1}])
def test_a_run_learns_with_mixed_images(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, changes: dict[str, Any]
) -> None:
    assert train_quietly(tiny_config(epochs=1, **changes), leaves, tmp_path)["best_epoch"] == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "bce", "focal_gamma": 2}, "`focal_gamma` is for `loss: cross_entropy`"),
        ({"logit_adjustment": 1, "class_weights": "balanced"}, "both favour rare classes"),
        ({"logit_adjustment": 1, "sampler": "balanced"}, "`sampler: balanced` both favour rare classes"),
        ({"soft_labels": "t.csv", "loss": "symmetric_ce"}, "is not defined for the probabilities of `soft_labels`"),
        ({"soft_labels": "t.csv", "head": "arcface"}, "`head: arcface` is not defined for the probabilities"),
        ({"logit_adjustment": 1, "loss": "bce"}, "needs probabilities that sum to 1"),
    ],
)
def test_losses_that_do_not_fit_together_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TrainConfig(**changes)


@pytest.mark.parametrize("changes", [{"loss": "generalized_ce"}, {"loss": "symmetric_ce"}, {"logit_adjustment": 1}])
def test_losses_of_one_class_are_refused_where_an_image_may_have_several(
    plants: Path, tiny_config: Config, changes: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="needs one class an image"):
        build_setup(tiny_config(**changes), plants, labels=plants / "train.csv")
    check_loss(TrainConfig(**changes), has_several=False)
