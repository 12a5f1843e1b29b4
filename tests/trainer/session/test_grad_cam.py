"""What the model looked at, drawn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cloudrun.recipe.train_config import TrainConfig
from trainer.data.augment import normalise, visible
from trainer.model.ensemble import Ensemble, build_model
from trainer.session.grad_cam import heat_map


class Brightness(nn.Module):
    """A backbone whose feature map is how bright and how dark each eighth of the image is."""

    def forward_features(self, images_BCHW: Tensor) -> Tensor:
        light = functional.adaptive_avg_pool2d(images_BCHW.mean(1, keepdim=True), 8)
        return torch.cat([light, -light], dim=1).relu()

    def forward_head(self, features: Tensor) -> Tensor:
        return features.mean(dim=(2, 3))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images_BCHW))


def bright_corner() -> Tensor:
    """An image, normalised, that is white at the top left and black elsewhere."""
    image = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    image[..., :16, :16] = 255
    return normalise(image)


@pytest.fixture
def light_or_dark() -> Ensemble:
    """A model of two classes: `light` is what is bright, `dark` what is not."""
    head = nn.Linear(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.eye(2))
    return Ensemble({"brightness": Brightness()}, head=head, config=TrainConfig(dropout=0.5))


def test_what_speaks_for_a_class_is_warm_and_the_rest_is_not(light_or_dark: Ensemble) -> None:
    light = heat_map(light_or_dark, bright_corner(), 0)
    dark = heat_map(light_or_dark, bright_corner(), 1)
    assert light is not None
    assert dark is not None
    assert light.shape == (64, 64)
    assert float(light[4, 4]) == pytest.approx(1.0)
    assert float(light[40, 40]) == 0.0
    assert float(dark[4, 4]) == 0.0
    assert float(dark[40, 40]) > 0.9


def test_nothing_that_speaks_for_a_class_leaves_the_picture_cold(light_or_dark: Ensemble) -> None:
    with torch.no_grad():
        light_or_dark.head.weight.neg_()
    heat = heat_map(light_or_dark, normalise(torch.full((1, 3, 64, 64), 255, dtype=torch.uint8)), 0)
    assert heat is not None
    assert float(heat.max()) == 0.0


def test_the_model_stays_as_it_is(light_or_dark: Ensemble) -> None:
    light_or_dark.train()
    heat_map(light_or_dark, bright_corner(), 0)
    assert light_or_dark.training
    assert all(parameter.grad is None for parameter in light_or_dark.parameters())


@pytest.mark.parametrize(
    ("backbones", "has_map"),
    [(("test_resnet",), True), (("test_resnet", "test_efficientnet"), True), (("test_vit",), False)],
)
def test_backbones_with_a_feature_map_are_drawn(backbones: tuple[str, ...], has_map: bool) -> None:
    model = build_model(TrainConfig(backbones=backbones, pretrained=False, image_size=96, drop_path=0), classes=3)
    heat = heat_map(model, normalise(torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)), 2)
    assert (heat is not None) is has_map
    if heat is not None:
        assert heat.shape == (96, 96)
        assert 0.0 <= float(heat.min()) <= float(heat.max()) <= 1.0


def test_what_was_normalised_is_visible_again() -> None:
    image = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(visible(normalise(image)), image)
