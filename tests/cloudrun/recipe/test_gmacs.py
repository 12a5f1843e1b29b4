"""The work of each backbone, read without timm, against what timm's own modules do."""

import subprocess
import sys
from pathlib import Path

import pytest

from cloudrun.recipe import gmacs
from cloudrun.recipe.backbones import known_backbones
from cloudrun.recipe.gmacs import measure, work_of


@pytest.mark.parametrize(
    ("backbone", "image_size", "gmacs", "parameters_m"),
    [
        ("resnet50", 224, 4.09, 23.5),  # He et al. 2015, table 1, counts 3.8 without the shortcuts' projections
        ("efficientnet_b3", 224, 0.96, 10.7),
        ("efficientnet_b3", 300, 1.72, 10.7),  # Tan & Le 2019, table 2: 1.8
        ("vit_base_patch16_224.augreg_in21k", 224, 17.6, 85.8),
    ],
)
def test_the_work_is_what_papers_say_it_is(backbone: str, image_size: int, gmacs: float, parameters_m: float) -> None:
    work = work_of(backbone, image_size)
    assert work is not None
    assert work.gmacs == pytest.approx(gmacs, rel=0.02)
    assert work.parameters_m == pytest.approx(parameters_m, rel=0.01)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "resnest14d"])
def test_the_stored_list_is_what_the_generator_counts(backbone: str) -> None:
    counted = measure(backbone)
    stored = work_of(backbone, counted.image_size)
    assert stored is not None
    assert stored.gmacs == pytest.approx(counted.gmacs, rel=1e-3)
    assert stored.activations_m == pytest.approx(counted.activations_m, rel=1e-3)


def test_every_backbone_that_a_job_may_name_is_counted_or_known_to_be_uncounted() -> None:
    lines = Path(gmacs.__file__).with_suffix(".txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == sorted(known_backbones())
    counted = sum(work_of(name, 224) is not None for name in known_backbones())
    assert counted > 0.95 * len(known_backbones())


def test_the_list_is_read_without_torch_or_timm() -> None:
    code = (
        "import sys; from cloudrun.recipe.gmacs import work_of; work_of('resnet50', 224); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
