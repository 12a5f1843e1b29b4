"""Backbones side by side, and where their weights come from."""

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from timm.layers import DropPath

from cloudrun.recipe.inputs import inputs_from
from cloudrun.recipe.train_config import TrainConfig
from cloudrun.recipe.weights import NoWeights
from trainer.errors import TrainerError
from trainer.model.ensemble import build_model, set_drop_path

Config = Callable[..., TrainConfig]


def test_the_champion_has_1536_and_2048_features(tiny_config: Config) -> None:
    config = tiny_config(backbones=["efficientnet_b3", "resnest50d"])
    model = build_model(config, classes=4)
    assert model.head.in_features == 1536 + 2048
    assert 36.1e6 < model.parameter_count() < 36.3e6


def test_features_are_the_backbones_own_side_by_side(tiny_config: Config) -> None:
    model = build_model(tiny_config(), classes=4).eval()
    model.set_inputs(inputs_from(None, backbones=2))  # without colours of their own
    model.use_default_formats("cpu")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        parts = [backbone(images) for backbone in model.backbones.values()]
        torch.testing.assert_close(model.features(images), torch.cat(parts, dim=1), atol=1e-5, rtol=1e-5)
        assert model(images).shape == (2, 4)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_come_from_a_folder(tmp_path: Path, tiny_config: Config, suffix: str) -> None:
    from safetensors.torch import save_file

    original = timm.create_model("test_resnet", num_classes=1000)
    file = tmp_path / f"test_resnet{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(original.state_dict(), file)
    model = build_model(tiny_config(backbones=["test_resnet"], pretrained=str(tmp_path)), classes=4)
    for name, values in model.backbones["test_resnet"].state_dict().items():
        assert torch.equal(values, original.state_dict()[name]), name


def test_a_folder_without_the_weights_says_what_it_has(tmp_path: Path, tiny_config: Config) -> None:
    (tmp_path / "resnet18.pth").touch()
    with pytest.raises(NoWeights, match=r"no weights for `test_efficientnet`; it has resnet18.pth"):
        build_model(tiny_config(pretrained=str(tmp_path)), classes=4)


def test_a_file_of_other_weights_is_named(tmp_path: Path, tiny_config: Config) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "test_resnet.pth")
    with pytest.raises(TrainerError, match=r"test_resnet.pth does not hold weights of `test_resnet`"):
        build_model(tiny_config(backbones=["test_resnet"], pretrained=str(tmp_path)), classes=4)


@pytest.mark.parametrize("name", ["test_resnet.safetensors", "test_resnet.pth"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\xff" * 64, b"PK\x03\x04" + bytes(60)])
def test_a_file_of_weights_that_is_none_is_named(
    tmp_path: Path, tiny_config: Config, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((TrainerError, NoWeights), match=rf"{name} (does not hold|is)"):
        build_model(tiny_config(backbones=["test_resnet"], pretrained=str(tmp_path)), classes=4)


def test_real_weights_give_the_features_that_timm_gives(shared: Path, tiny_config: Config) -> None:
    name = "tf_efficientnet_lite0"
    model = build_model(tiny_config(backbones=[name], pretrained=str(shared / "weights")), classes=4).eval()
    model.set_inputs(inputs_from(None, backbones=1))
    reference = timm.create_model(name).eval()
    reference.load_state_dict(torch.load(shared / "weights" / f"{name}.pth", weights_only=True), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = reference.forward_head(reference.forward_features(images), pre_logits=True)
        torch.testing.assert_close(model.features(images), expected)


def test_a_backbone_that_takes_another_size_is_named(tiny_config: Config) -> None:
    """The config refuses these sizes; `model_copy` does not look, as for a model that its list does not have."""

    def sized(name: str, image_size: int) -> TrainConfig:
        return tiny_config().model_copy(update={"backbones": (name,), "image_size": image_size})

    with pytest.raises(TrainerError, match="`test_vit` sees patches of 16 px, and 40 px are no multiple") as caught:
        build_model(sized("test_vit", 40), classes=2)
    assert caught.value.hint == "set `image_size` to 32 or 48, or choose another backbone"
    with pytest.raises(TrainerError, match="`maxvit_rmlp_pico_rw_256` does not take images of 100 px"):
        build_model(sized("maxvit_rmlp_pico_rw_256", 100), classes=2)


def test_stochastic_depth_leaves_out_branches_in_training_more_of_them_in_later_blocks() -> None:
    config = TrainConfig(backbones="test_resnet", pretrained=False, image_size=32, dropout=0, drop_path=0.6)
    torch.manual_seed(0)
    plain = build_model(config.model_copy(update={"drop_path": 0.0}), classes=2)
    torch.manual_seed(0)
    model = build_model(config, classes=2)
    assert [one.drop_prob for one in model.modules() if isinstance(one, DropPath)] == pytest.approx([0.2, 0.4, 0.6])
    assert all(
        torch.equal(value, model.backbones.state_dict()[key]) for key, value in plain.backbones.state_dict().items()
    )
    images = torch.randn(16, 3, 32, 32)
    for norm in (one for both in (plain, model) for one in both.modules() if isinstance(one, torch.nn.BatchNorm2d)):
        torch.nn.init.ones_(norm.weight)  # timm starts branches at 0, where leaving them out changes nothing
    with torch.no_grad():
        assert torch.equal(model.eval().features(images), plain.eval().features(images))
        model.train()
        assert not torch.equal(model.features(images), model.features(images))
        plain.train()
        assert torch.equal(plain.features(images), plain.features(images))


def test_a_backbone_without_branches_to_leave_out_is_named() -> None:
    with pytest.raises(TrainerError, match="`densenet121` has no residual branches"):
        set_drop_path(torch.nn.Identity(), 0.1, name="densenet121")


def test_with_its_mirror_an_image_gets_the_mean_of_both_logits_whichever_way_it_lies() -> None:
    model = build_model(TrainConfig(backbones="test_resnet", pretrained=False, image_size=32), classes=3).eval()
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        expected = (model(images) + model(images.flip(3))) / 2
        assert not torch.allclose(model(images), expected)
        model.has_mirror = True
        assert torch.equal(model(images), expected)
        torch.testing.assert_close(model(images.flip(3)), expected)
