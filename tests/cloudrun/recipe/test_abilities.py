"""What timm's models can do, as it is stored, against timm itself."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm

from cloudrun.recipe import abilities
from cloudrun.recipe.abilities import can
from cloudrun.recipe.backbones import known_backbones
from trainer.errors import TrainerError
from trainer.model.pooling import use_gem


@pytest.mark.parametrize(
    "name", ["test_efficientnet", "test_resnet", "test_convnext", "test_vit", "test_nfnet", "test_byobnet"]
)
def test_what_is_stored_is_what_timm_can(name: str) -> None:
    model = timm.create_model(name, num_classes=0)
    try:
        use_gem(model, name=name)
        has_gem = True
    except TrainerError:
        has_gem = False
    assert can(name, "gem") == has_gem
    model.set_grad_checkpointing(True)
    assert can(name, "checkpointing")


def test_a_tag_changes_no_ability() -> None:
    assert not can("vit_base_patch16_224.augreg_in21k", "gem")
    assert can("efficientnet_b3.ra2_in1k", "gem")


def test_every_model_on_the_list_is_one_of_timm_s() -> None:
    lines = Path(abilities.__file__).with_suffix(".txt").read_text().splitlines()
    assert {line.split()[0] for line in lines} <= known_backbones().keys()
    assert {word for line in lines for word in line.split()[1:]} == {"gem", "checkpointing"}


def test_looking_up_an_ability_loads_no_torch() -> None:
    code = (
        "import sys; from cloudrun.recipe.abilities import can; can('test_vit', 'gem'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
