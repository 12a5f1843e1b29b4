"""Statistics of batch norm for averaged weights, against torch's own `update_bn`."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from cloudrun.recipe import evaluations
from tests.support.trainer_runs import Config
from trainer.distributed.stop import StopFlag
from trainer.session import norms
from trainer.session.build import build_setup
from trainer.session.norms import refresh_norms
from trainer.session.setup import TrainingSetup
from trainer.session.step import prepare


@pytest.fixture
def setup(leaves: Path, tiny_config: Config) -> TrainingSetup:
    return build_setup(tiny_config(dropout=0.5, cache_gb=0, epochs=2), leaves)


def inputs(setup: TrainingSetup, *, first: int = 0) -> Iterator[Tensor]:
    for batch in setup.train_loader.epoch(2, start=first):
        yield prepare(batch, torch.device("cpu"), size=32)


def test_they_are_those_of_torch_over_the_last_epochs_images(setup: TrainingSetup) -> None:
    expected = copy.deepcopy(setup.model)
    update_bn(inputs(setup), expected)
    random = torch.get_rng_state()
    refresh_norms(setup, stop=StopFlag(), on_batch=lambda: None)
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(setup.model.state_dict()[name], value)
    assert all(one.momentum for one in setup.model.modules() if isinstance(one, _BatchNorm))


def test_of_many_images_some_are_enough(setup: TrainingSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    assert evaluations.refreshed_images(10**6) == norms.REFRESH_IMAGES
    monkeypatch.setattr(norms, "REFRESH_IMAGES", 16)
    expected = copy.deepcopy(setup.model)
    update_bn(inputs(setup, first=2), expected)
    refresh_norms(setup, stop=StopFlag(), on_batch=lambda: None)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(setup.model.state_dict()[name], value)
