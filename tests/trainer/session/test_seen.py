"""Training images as the model saw them: the very ones, and nothing is drawn for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.trainer_runs import Config
from trainer.data.augment import visible
from trainer.session.build import build_setup
from trainer.session.seen import seen_images, write_seen_images
from trainer.session.step import train_step


@pytest.mark.parametrize(
    "mixing", [{}, {"mixup": 0.4}, {"cutmix": 1.0}, {"random_erasing": 0.9}, {"flips": "dihedral"}]
)
def test_they_are_what_the_step_gives_to_the_model(leaves: Path, tiny_config: Config, mixing: dict[str, Any]) -> None:
    setup = build_setup(tiny_config(batch_size=16, **mixing), leaves)
    setup.model.train()
    batch = next(iter(setup.train_loader.epoch(1)))
    given: list[Tensor] = []
    setup.model.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    torch.manual_seed(1)
    pictures, labels = seen_images(setup, batch, images=len(batch.labels))
    train_step(setup, batch, say=print)
    places = [*range(6), *range(len(given[0]) - 6, len(given[0]))]
    assert len(pictures) == len(labels) == 12
    for picture, place in zip(pictures, places, strict=True):
        assert np.array_equal(np.asarray(picture), visible(given[0])[place].permute(1, 2, 0).numpy())
    assert list(labels) == [setup.dataset.classes[label] for label in batch.labels[places].tolist()]


def test_they_change_no_random_number(leaves: Path, tiny_config: Config, tmp_path: Path) -> None:
    setup = build_setup(tiny_config(mixup=0.4), leaves)
    batch = next(iter(setup.train_loader.epoch(1)))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    write_seen_images(tmp_path / "augmented.jsonl", setup, batch, images=len(batch.labels))
    assert (tmp_path / "augmented.jsonl").is_file()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_full_disk_does_not_end_the_run(leaves: Path, tiny_config: Config, tmp_path: Path) -> None:
    setup = build_setup(tiny_config(), leaves)
    batch = next(iter(setup.train_loader.epoch(1)))
    (tmp_path / "file").write_text("no folder")
    write_seen_images(tmp_path / "file" / "augmented.jsonl", setup, batch, images=len(batch.labels))
    assert (tmp_path / "file").read_text() == "no folder"
