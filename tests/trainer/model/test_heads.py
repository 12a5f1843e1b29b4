"""The heads, the pooling and the recomputed activations: each against a plain implementation, and in whole runs."""

import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from cloudrun.recipe.train_config import TrainConfig
from tests.support.trainer_runs import Config, StopsAfter, Train, assert_same_predictions, assert_same_run
from trainer.errors import ConfigError, StoppedEarly, TrainerError
from trainer.model.checkpointing import recompute_activations
from trainer.model.ensemble import build_model
from trainer.model.heads import CosineHead, with_margin
from trainer.model.optim import make_optimizer
from trainer.model.pooling import GeM, check_is_used, use_gem
from trainer.session.build import build_setup
from trainer.session.step import train_step
from trainer.tools.predict import predict

ARCFACE: dict[str, Any] = {"head": "arcface", "arcface_margin": 0.4, "arcface_scale": 16}
FACE = TrainConfig(**ARCFACE)


@pytest.mark.parametrize("p", [1.0, 3.0, 6.0])
def test_gem_is_its_formula_and_the_mean_at_1(p: float) -> None:
    maps = torch.rand(2, 5, 4, 4) + 0.1
    pool = GeM()
    pool.p.data.fill_(p)
    expected = torch.stack([(maps[:, c].flatten(1) ** p).mean(1) ** (1 / p) for c in range(5)], dim=1)
    torch.testing.assert_close(pool(maps), expected)
    torch.testing.assert_close(pool(maps) if p == 1 else maps.mean((2, 3)), maps.mean((2, 3)))


@pytest.mark.parametrize("p", [0.2, 3.0, 40.0])
@pytest.mark.parametrize("value", [0.0, -3.0, 60.0])
def test_gem_is_finite_with_finite_slopes_whatever_it_learns(p: float, value: float) -> None:
    pool, maps = GeM(), torch.full((1, 2, 3, 3), value, requires_grad=True)
    pool.p.data.fill_(p)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = pool(maps.bfloat16())
    pooled.sum().backward()
    assert pooled.dtype == torch.float32
    assert all(torch.isfinite(one).all() for one in (pooled, maps.grad, pool.p.grad) if one is not None)


@pytest.mark.parametrize(
    "name", ["test_efficientnet", "test_resnet", "test_convnext", "mobilenetv3_small_050", "swin_s3_tiny_224"]
)
def test_gem_takes_the_place_of_the_mean_in_maps_of_either_layout(name: str) -> None:
    size = 224 if name.startswith("swin") else 64
    model = timm.create_model(name, num_classes=0).eval()
    images = torch.randn(1, 3, size, size)
    with torch.no_grad():
        mean = model(images)
        use_gem(model, name=name)
        check_is_used(model, name=name, image_size=size)
        assert model(images).shape == mean.shape
        assert not torch.allclose(model(images), mean)


def test_gem_learns_at_the_backbone_s_rate_without_decay() -> None:
    config = TrainConfig(
        backbones="test_resnet", pretrained=False, image_size=32, pooling="gem", backbone_lr=0.1, layer_decay=0.5
    )
    model = build_model(config, classes=2)
    exponents = [one for name, one in model.named_parameters() if name.endswith(".p")]
    assert len(exponents) == 1
    groups = make_optimizer(model, config).param_groups
    own = [group for group in groups if any(one is exponents[0] for one in group["params"])]
    assert [(group["weight_decay"], group["lr_factor"]) for group in own] == [(0.0, 0.1)]


def test_gem_is_refused_by_name_and_by_trying() -> None:
    with pytest.raises(ValueError, match=r"`pooling: gem` needs feature maps .* `test_vit` has not"):
        TrainConfig(backbones="test_vit", pretrained=False, image_size=32, pooling="gem")
    with pytest.raises(TrainerError, match="`test_vit` does not end in maps"):
        use_gem(timm.create_model("test_vit", num_classes=0), name="test_vit")


def plain_arcface(features: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """By angles, an image at a time."""
    rows = []
    for feature, label in zip(features, labels.tolist(), strict=True):
        angles = [math.acos(float(functional.cosine_similarity(feature, one, dim=0))) for one in weight]
        cosines = [math.cos(angle + (0.4 if at == label else 0)) for at, angle in enumerate(angles)]
        rows.append([16 * cosine for cosine in cosines])
    return torch.tensor(rows)


def test_arcface_adds_its_margin_to_the_angle_of_the_own_class() -> None:
    torch.manual_seed(0)
    head, features, labels = CosineHead(8, 3, scale=16), torch.randn(6, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    logits = with_margin(head(features), labels, FACE)
    torch.testing.assert_close(logits, plain_arcface(features, head.weight.detach(), labels), atol=1e-4, rtol=1e-4)
    assert (head(features).abs() <= 16).all()


def test_the_margin_never_raises_a_logit_and_its_slopes_are_finite() -> None:
    cosines = torch.linspace(-1, 1, 201)
    logits = (16 * torch.stack([cosines, torch.zeros(201)], dim=1)).requires_grad_()
    own = with_margin(logits, torch.zeros(201, dtype=torch.int64), FACE)[:, 0]
    assert (own[1:] > own[:-1]).all()
    assert (own <= logits[:, 0]).all()
    own.sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_the_loss_of_several_draws_is_the_mean_of_theirs(leaves: Path, tiny_config: Config) -> None:
    setup = build_setup(tiny_config(dropout_samples=3, dropout=0.5), leaves)
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    setup.model.train()
    logits = setup.model(images)
    assert logits.shape == (4, 3, 4)
    assert not torch.equal(logits[:, 0], logits[:, 1])
    each = [functional.cross_entropy(logits[:, at], labels, label_smoothing=0.1, reduction="none") for at in range(3)]
    torch.testing.assert_close(setup.image_losses(logits, labels), torch.stack(each).mean(0))
    setup.model.eval()
    assert setup.model(images).shape == (4, 4)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_vit", "test_convnext"])
def test_recomputed_activations_give_the_same_gradients_and_statistics(name: str) -> None:
    torch.manual_seed(0)
    size = 160 if name == "test_vit" else 64
    plain = timm.create_model(name, num_classes=0)
    other = timm.create_model(name, num_classes=0)
    other.load_state_dict(plain.state_dict())
    recompute_activations(other, name=name, image_size=size)
    assert all(torch.equal(one, two) for one, two in zip(plain.buffers(), other.buffers(), strict=True))
    images = torch.randn(3, 3, size, size)
    for model in (plain, other):
        model.train()
        model(images).square().sum().backward()
    for (key, one), two in zip(plain.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, msg=key)
    for (key, one), two in zip(plain.named_buffers(), other.buffers(), strict=True):
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(one, two, msg=key)


def kept_bytes(config: TrainConfig, leaves: Path) -> int:
    """Bytes that a training pass keeps for its backward pass."""
    setup, sizes = build_setup(config, leaves), []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    setup.model.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        setup.model(torch.randn(4, 3, 32, 32))
    return sum(sizes)


def test_recomputed_activations_are_not_kept(leaves: Path, tiny_config: Config) -> None:
    few, many = (kept_bytes(tiny_config(grad_checkpointing=on), leaves) for on in (True, False))
    assert few < 0.8 * many


@pytest.mark.parametrize(
    "changes",
    [
        ARCFACE,
        {"pooling": "gem", "dropout_samples": 3},
        {"grad_checkpointing": True, "frozen_epochs": 1, "epochs": 2},
    ],
)
def test_a_stopped_run_goes_on_and_its_checkpoint_predicts(
    leaves: Path, tmp_path: Path, tiny_config: Config, train_quietly: Train, changes: dict[str, Any]
) -> None:
    config = tiny_config(**{"epochs": 1, **changes})
    train_quietly(config, leaves, tmp_path / "whole")
    with pytest.raises(StoppedEarly):
        train_quietly(config, leaves, tmp_path / "stopped", StopsAfter(3))
    train_quietly(config, leaves, tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")
    again = tmp_path / "again.csv"
    predict(tmp_path / "whole" / "checkpoints" / "best.pt", data=leaves, out=again)
    assert_same_predictions(again, tmp_path / "whole" / "predictions.csv")


def test_arcface_learns(leaves: Path, tiny_config: Config) -> None:
    setup = build_setup(tiny_config(**ARCFACE, dropout=0, lr=3e-3), leaves)
    setup.model.train()
    batch = next(iter(setup.train_loader.epoch(1)))
    losses = [float(train_step(setup, batch, say=print).loss_sum) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    assert isinstance(setup.model.head, CosineHead)
    assert not isinstance(setup.model.head, nn.Linear)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head": "arcface", "mixup": 0.2}, "`head: arcface` needs one label an image, and `mixup` gives it two"),
        ({"head": "arcface", "cutmix": 1}, "and `cutmix` gives it two"),
        ({"head": "arcface", "loss": "bce"}, "defined for `loss: cross_entropy`"),
        ({"dropout_samples": 4, "dropout": 0}, "all draws would be the same"),
        ({"grad_checkpointing": True, "compile": "on"}, "do not go together"),
    ],
)
def test_heads_that_cannot_be_trained_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TrainConfig(**changes)


def test_arcface_is_refused_where_an_image_may_have_several_classes(plants: Path, tiny_config: Config) -> None:
    with pytest.raises(ConfigError, match="`head: arcface` needs one class an image"):
        build_setup(tiny_config(head="arcface"), plants, labels=plants / "train.csv")
