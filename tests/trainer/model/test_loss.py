"""The loss and the mixing of images: what a batch's images and labels become, and how much each of them counts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from cloudrun.recipe.train_config import TrainConfig
from tests.support.trainer_runs import StopsAfter, assert_same_run
from trainer.data.mixing import Mix, draw_mix
from trainer.errors import StoppedEarly
from trainer.model.loss import image_losses, weights_of_classes
from trainer.model.targets import Targets

LOGITS = torch.tensor([[4.0, 0.0, -1.0], [0.5, 0.0, 0.2], [0.0, 3.0, 0.0]])
LABELS = torch.tensor([0, 2, 0])


def losses(**changes: Any) -> torch.Tensor:
    return image_losses(LOGITS, LABELS, TrainConfig(**changes), class_weights=None)


def test_by_default_it_is_smoothed_cross_entropy() -> None:
    expected = functional.cross_entropy(LOGITS, LABELS, label_smoothing=0.1, reduction="none")
    assert torch.equal(losses(), expected)


def test_focal_loss_is_its_formula_and_takes_weight_from_what_is_easy() -> None:
    plain = losses(label_smoothing=0)
    given = torch.exp(-plain)
    torch.testing.assert_close(losses(label_smoothing=0, focal_gamma=2), (1 - given) ** 2 * plain)
    parts = losses(label_smoothing=0, focal_gamma=2) / plain
    assert parts[0] < 0.01 < 0.9 < parts[2]


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_an_image_that_is_surely_right_has_a_finite_slope(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    config = TrainConfig(label_smoothing=0, focal_gamma=gamma)
    image_losses(logits, torch.tensor([0]), config, class_weights=None).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_balanced_classes_weigh_the_same_in_all_and_an_image_one_on_average() -> None:
    files = [(Path("a"), 0)] * 6 + [(Path("b"), 1)] * 2 + [(Path("c"), 2)]
    weights = weights_of_classes(files, TrainConfig(class_weights="balanced"), classes=3)
    assert weights is not None
    labels = torch.tensor([label for _, label in files])
    sums = torch.zeros(3).index_add_(0, labels, weights[labels])
    torch.testing.assert_close(sums, torch.full((3,), 3.0))
    assert float(weights[labels].mean()) == pytest.approx(1)
    weighed = image_losses(LOGITS, LABELS, TrainConfig(), class_weights=weights)
    torch.testing.assert_close(weighed, losses() * weights[LABELS])
    assert weights_of_classes(files, TrainConfig(), classes=3) is None


def test_mixup_blends_each_image_and_its_loss_with_its_others() -> None:
    images = torch.rand(3, 3, 4, 4)
    mix = Mix(0.7)
    torch.testing.assert_close(mix.images(images)[0], images[0] * 0.7 + images[2] * 0.3)
    torch.testing.assert_close(mix.images(images)[1], images[1])
    soft = functional.one_hot(LABELS, 3) * 0.7 + functional.one_hot(LABELS.flip(0), 3) * 0.3
    own, others = (functional.cross_entropy(LOGITS, one, reduction="none") for one in (LABELS, LABELS.flip(0)))
    torch.testing.assert_close(mix.losses(own, others), functional.cross_entropy(LOGITS, soft, reduction="none"))


def test_cutmix_pastes_a_box_of_the_other_and_counts_its_area() -> None:
    zeros_and_ones = torch.zeros(2, 3, 32, 32)
    zeros_and_ones[1] = 1
    torch.manual_seed(0)
    config = TrainConfig(cutmix=1, image_size=32)
    for _ in range(50):
        mix = draw_mix(config, size=config.image_size)
        assert mix is not None
        mixed = mix.images(zeros_and_ones)
        assert float(mixed[0].mean()) == pytest.approx(1 - mix.share, abs=1e-6)
        assert float(mixed[1].mean()) == pytest.approx(mix.share, abs=1e-6)
        assert set(mixed.unique().tolist()) <= {0.0, 1.0}


def test_shares_have_the_spread_that_alpha_says_and_both_kinds_take_turns() -> None:
    torch.manual_seed(0)
    drawn = [draw_mix(TrainConfig(mixup=0.4, cutmix=1), size=224) for _ in range(2000)]
    shares = torch.tensor([mix.share for mix in drawn if mix is not None and mix.box is None])
    assert len(shares) / 2000 == pytest.approx(0.5, abs=0.04)
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.04)
    assert float(shares.var()) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.01)  # of Beta(alpha, alpha)


def test_nothing_is_drawn_where_nothing_is_mixed() -> None:
    torch.manual_seed(5)
    assert draw_mix(TrainConfig(), size=224) is None
    assert torch.equal(torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(5)))


def test_a_run_that_mixes_is_the_same_after_stops(
    leaves: Path, tmp_path: Path, tiny_config: Callable[..., TrainConfig], train_quietly: Callable[..., Any]
) -> None:
    config = tiny_config(epochs=2, mixup=0.2, cutmix=1, class_weights="balanced", focal_gamma=1)
    train_quietly(config, leaves, tmp_path / "whole")
    for asked in (2, 4):
        with pytest.raises(StoppedEarly):
            train_quietly(config, leaves, tmp_path / "stopped", StopsAfter(asked))
    train_quietly(config, leaves, tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_with_several_classes_an_image_each_class_counts_by_itself() -> None:
    targets = Targets(torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]))
    logits, labels = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]]), torch.tensor([0, 1])
    config = TrainConfig(label_smoothing=0.0)
    plain = image_losses(logits, labels, config, targets=targets)
    assert plain.tolist() == pytest.approx(targets.losses(logits, labels).tolist())
    focal = image_losses(logits, labels, TrainConfig(label_smoothing=0.0, focal_gamma=2.0), targets=targets)
    p = logits[0].sigmoid()
    given = torch.stack([p[0], 1 - p[1], 1 - p[2]])
    assert focal[0].item() == pytest.approx((-((1 - given) ** 2) * given.log()).mean().item(), rel=1e-5)


def test_balanced_weights_count_each_of_an_images_classes() -> None:
    files = [(Path("a"), 0), (Path("b"), 1), (Path("c"), 1)]
    weights = weights_of_classes(files, TrainConfig(class_weights="balanced"), classes=2, sets=[[0], [0, 1]])
    assert weights is not None
    assert weights.tolist() == pytest.approx([5 / 6, 5 / 4])
