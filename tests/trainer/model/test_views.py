"""Views of test-time augmentation: what each shows, and that logits are averaged as by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cloudrun.recipe.train_config import TrainConfig
from cloudrun.recipe.views import View, views_of
from trainer.model.ensemble import Ensemble, build_model
from trainer.model.views import loaded_size, seen


def config_of(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"backbones": "test_resnet", "pretrained": False, "image_size": 32, **changes})


@pytest.fixture(scope="module")
def model() -> Ensemble:
    torch.manual_seed(0)
    return build_model(config_of(), classes=3).eval()


IMAGES = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def logits(model: Ensemble, config: TrainConfig, images: Tensor) -> Tensor:
    model.views = views_of(config)
    try:
        with torch.no_grad():
            return model(images)
    finally:
        model.views = ()


def test_a_view_is_mirrored_and_then_turned() -> None:
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    shown = [seen(image, View(2, is_mirrored, turns)).flatten().tolist() for is_mirrored, turns in
             ((False, 0), (True, 0), (False, 1), (True, 1))]  # fmt: skip
    assert shown == [[1, 2, 3, 4], [2, 1, 4, 3], [2, 4, 1, 3], [1, 3, 2, 4]]


def test_the_mirrored_image_has_the_same_mean_of_both_logits(model: Ensemble) -> None:
    images = IMAGES[..., :32, :32]
    with torch.no_grad():
        expected = (model(images) + model(images.flip(3))) / 2
        assert not torch.allclose(model(images), expected)
    flipped = config_of(tta="flip")
    assert torch.equal(logits(model, flipped, images), expected)
    torch.testing.assert_close(logits(model, flipped, images.flip(3)), expected)


def test_eight_views_are_the_mean_over_all_turns_and_mirror_images(model: Ensemble) -> None:
    images, dihedral = IMAGES[..., :32, :32], config_of(tta="dihedral")
    with torch.no_grad():
        turned = [torch.rot90(images, turns, (2, 3)) for turns in range(4)]
        expected = torch.stack([model(one) for two in turned for one in (two, two.flip(3))]).mean(0)
    found = logits(model, dihedral, images)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(logits(model, dihedral, images.transpose(2, 3)), found)


def test_at_two_sizes_an_image_is_loaded_at_the_larger_and_made_smaller(model: Ensemble) -> None:
    config = config_of(tta="flip", tta_sizes=(1, 2))
    assert loaded_size(views_of(config), otherwise=32) == 64
    small = functional.interpolate(IMAGES, size=(32, 32), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = torch.stack([model(one) for two in (small, IMAGES) for one in (two, two.flip(3))]).mean(0)
    torch.testing.assert_close(logits(model, config, IMAGES), expected)


def test_training_sees_no_views(model: Ensemble) -> None:
    seen_sizes: list[int] = []
    handle = model.backbones["test_resnet"].register_forward_pre_hook(
        lambda _, inputs: seen_sizes.append(len(inputs[0]))
    )
    model.views = views_of(config_of(tta="dihedral"))
    try:
        model.train()(IMAGES)
        model.eval()(IMAGES)
    finally:
        handle.remove()
        model.views = ()
    assert seen_sizes == [4] * 9
