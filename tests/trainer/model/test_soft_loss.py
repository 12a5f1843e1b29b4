"""The loss against a teacher's probabilities is that of labels, where the teacher is sure."""

import pytest
import torch
from torch.nn import functional

from cloudrun.recipe.train_config import TrainConfig
from trainer.model.loss import image_losses
from trainer.model.soft_loss import blended_losses
from trainer.model.targets import ONE_CLASS, Targets

LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)) * 2
LABELS = torch.tensor([0, 1, 2, 2, 1, 0])
SEVERAL = Targets(torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 0]]))
WEIGHTS = torch.tensor([0.5, 1.0, 3.0])


def rows(share: float, probabilities: torch.Tensor) -> torch.Tensor:
    return torch.cat((torch.full((len(probabilities), 1), share), probabilities), 1)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("targets", [ONE_CLASS, SEVERAL])
def test_a_sure_teacher_is_a_label(targets: Targets, weights: torch.Tensor | None) -> None:
    config = TrainConfig(label_smoothing=0.1)
    hard = image_losses(LOGITS, LABELS, config, targets=targets, class_weights=weights)
    sure = SEVERAL.wanted(LABELS) if targets.has_several else functional.one_hot(LABELS, 3).float()
    for share in (0.0, 0.3, 1.0):
        soft = blended_losses(hard, LOGITS, rows(share, sure), config, targets=targets, class_weights=weights)
        torch.testing.assert_close(soft, hard)


def test_the_blend_is_the_cross_entropy_against_the_mixed_target() -> None:
    config = TrainConfig(label_smoothing=0.0)
    teacher = torch.rand(6, 3, generator=torch.Generator().manual_seed(1))
    teacher = teacher / teacher.sum(1, keepdim=True)
    hard = image_losses(LOGITS, LABELS, config)
    found = blended_losses(hard, LOGITS, rows(0.4, teacher), config, targets=ONE_CLASS, class_weights=None)
    mixed = 0.6 * functional.one_hot(LABELS, 3) + 0.4 * teacher
    torch.testing.assert_close(found, functional.cross_entropy(LOGITS, mixed, reduction="none"))


def test_an_image_with_probabilities_alone_does_not_see_its_label() -> None:
    soft = rows(1.0, torch.full((6, 3), 1 / 3))
    hard = torch.full((6,), float("inf"))
    found = blended_losses(hard, LOGITS, soft, TrainConfig(), targets=ONE_CLASS, class_weights=None)
    assert bool(torch.isfinite(found).all())
