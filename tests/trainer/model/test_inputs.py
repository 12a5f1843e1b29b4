"""Each backbone sees what its weights were trained with: the trainer's path of an image against timm's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

from cloudrun.recipe.train_config import TrainConfig
from trainer.data.augment import evaluation_transform, normalise
from trainer.data.leaves import draw_leaf
from trainer.model.ensemble import build_model

Config = Callable[..., TrainConfig]
PHOTO = draw_leaf("scab", size=300, seed="0").resize((400, 300))
SIZES = {
    "test_vit": 160,
    "test_resnet": 160,
    "tf_efficientnet_lite0": 224,
    "vit_tiny_patch16_224": 224,
    "eva02_tiny_patch14_224": 224,
    "convnext_atto": 224,
    "swin_tiny_patch4_window7_224": 224,
}


def by_trainer(config: TrainConfig, image: Image.Image) -> torch.Tensor:
    """Return the features of an image as an evaluation computes them."""
    model = build_model(config, classes=2).eval()
    with torch.inference_mode():
        pixels = evaluation_transform(config.image_size, model.inputs)(image)
        return model.features(normalise(pixels.unsqueeze(0)))


def by_timm(reference: torch.nn.Module, image: Image.Image, *, size: int) -> torch.Tensor:
    """Return the features of an image by timm's own transform and model."""
    data = resolve_model_data_config(reference) | {"input_size": (3, size, size)}
    with torch.inference_mode():
        images = create_transform(**data)(image).unsqueeze(0)
        features: torch.Tensor = reference.eval().forward_head(reference.forward_features(images), pre_logits=True)
    return features


@pytest.mark.parametrize("name", [*list(SIZES)[:5], pytest.param("convnext_atto", marks=pytest.mark.slow),
                                  pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow)])  # fmt: skip
def test_written_weights_give_the_features_that_timm_gives(name: str, tmp_path: Path, tiny_config: Config) -> None:
    torch.manual_seed(0)
    reference = timm.create_model(name)
    torch.save(reference.state_dict(), tmp_path / f"{name}.pth")
    config = tiny_config(backbones=name, pretrained=str(tmp_path), image_size=SIZES[name])
    expected = by_timm(reference, PHOTO, size=SIZES[name])
    torch.testing.assert_close(by_trainer(config, PHOTO), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("test_vit", 96),
        ("vit_tiny_patch16_224", 128),
        ("eva02_tiny_patch14_224", 196),
        pytest.param("swin_tiny_patch4_window7_224", 256, marks=pytest.mark.slow),
        pytest.param("vit_small_patch14_dinov2", 224, marks=pytest.mark.slow),
    ],
)
def test_a_model_of_fixed_size_takes_images_of_another(
    name: str, size: int, tmp_path: Path, tiny_config: Config
) -> None:
    torch.manual_seed(0)
    torch.save(timm.create_model(name).state_dict(), tmp_path / f"{name}.pth")
    overlay = {"file": str(tmp_path / f"{name}.pth")}
    reference = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, img_size=size)
    config = tiny_config(backbones=name, pretrained=str(tmp_path), image_size=size)
    torch.testing.assert_close(by_trainer(config, PHOTO), by_timm(reference, PHOTO, size=size), atol=1e-4, rtol=1e-3)


def test_published_weights_give_the_features_that_timm_gives(shared: Path, tiny_config: Config) -> None:
    name = "tf_efficientnet_lite0"
    reference = timm.create_model(name)
    reference.load_state_dict(torch.load(shared / "weights" / f"{name}.pth", weights_only=True))
    config = tiny_config(backbones=name, pretrained=str(shared / "weights"), image_size=224)
    expected = by_timm(reference, PHOTO, size=224)
    torch.testing.assert_close(by_trainer(config, PHOTO), expected, atol=1e-3, rtol=1e-3)


def test_images_may_grow_for_a_model_of_fixed_size(tiny_config: Config) -> None:
    config = tiny_config(backbones="test_vit", image_size=160, start_image_size=96, epochs=4)
    model = build_model(config, classes=2).eval()
    with torch.inference_mode():
        assert [model(torch.zeros(1, 3, size, size)).shape for size in (96, 128, 160)] == [(1, 2)] * 3


def test_of_several_backbones_each_has_its_own_colours(tiny_config: Config) -> None:
    model = build_model(tiny_config(backbones=["test_resnet", "tf_efficientnet_lite0"]), classes=2).eval()
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        features = model.features(normalise(images))
        own = model.backbones["tf_efficientnet_lite0"]((images.float() / 255 - 0.5) / 0.5)
    torch.testing.assert_close(features[:, -1280:], own, atol=1e-4, rtol=1e-3)
