"""The list of timm's names that is read without timm."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm

from cloudrun.recipe import backbones
from cloudrun.recipe.backbones import has_weights, is_known, list_of_timm, nearest, patch_of


def test_the_list_is_that_of_the_installed_timm() -> None:
    stored = Path(backbones.__file__).with_suffix(".txt").read_text()
    assert stored == list_of_timm(), f"timm {timm.__version__} differs: run python -m cloudrun.recipe.backbones"


def test_names_are_known_with_and_without_the_tag_of_their_weights() -> None:
    assert is_known("tf_efficientnet_b3")
    assert is_known("tf_efficientnet_b3.ns_jft_in1k")
    assert not is_known("tf_efficientnet_b3.other")
    assert has_weights("resnest50d")
    assert nearest("efficient_net_b3") == ["efficientnet_b3"]


def test_validating_a_config_loads_neither_torch_nor_timm_nor_numpy() -> None:
    code = (
        "import sys; from cloudrun.recipe import train_config as config; from cloudrun.recipe import problems; "
        "from cloudrun.imagedata import folders; from trainer.data import leaves; "
        "config.TrainConfig.model_validate({}); "
        "print(sorted({'torch', 'timm', 'numpy', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "pixels"), [("vit_base_patch14_dinov2", 14), ("test_vit", 16), ("test_vit3", 16), ("resnet50", None)]
)
def test_the_patches_of_a_vision_transformer_are_known_by_its_name(name: str, pixels: int | None) -> None:
    assert patch_of(name) == pixels
