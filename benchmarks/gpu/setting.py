"""The setting that all parts share: where they measure, on which images, and with which recipe."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cloudrun.imagedata.folders import list_images
from cloudrun.recipe.train_config import TrainConfig
from trainer.data.leaves import write_leaves
from trainer.data.loader import Batch, mix
from trainer.model.optim import lr_at, set_lr
from trainer.session.build import build_setup
from trainer.session.setup import TrainingSetup
from trainer.session.step import train_step

CLASSES = 8
# A tiny network, so that each line of the parts runs on a CPU within seconds.
REHEARSAL: dict[str, Any] = {
    "backbones": ["test_resnet", "test_efficientnet"], "image_size": 32, "device": "cpu", "workers": 1,
}  # fmt: skip
_TRAIN_IMAGES, _VAL_IMAGES = 4000, 400
_REHEARSAL_TRAIN_IMAGES, _REHEARSAL_VAL_IMAGES = 128, 32


@dataclass(frozen=True, slots=True)
class Setting:
    """Folders and mode of one run of the benchmark.

    `scratch` is this run's alone; `photos` is a flat folder, None for drawn images.
    """

    out: Path
    scratch: Path
    photos: Path | None
    timm_script: Path | None
    rehearses: bool

    @property
    def place(self) -> torch.device:
        return torch.device("cpu" if self.rehearses else "cuda")

    def config(self, **changes: Any) -> TrainConfig:
        """Return the champion's recipe without weights of ImageNet, or the rehearsal's tiny one."""
        base: dict[str, Any] = REHEARSAL if self.rehearses else {"device": "cuda"}
        return TrainConfig.model_validate({**base, "pretrained": False, **changes})

    def setup(self, **changes: Any) -> TrainingSetup:
        return build_setup(self.config(**changes), self.data())

    def data(self) -> Path:
        """Return a folder of train/ and val/ in 8 classes, made once, with several names for each photo.

        The trainer keeps decoded images by name, so each name is really decoded.
        """
        folder = self.scratch / "data"
        if not folder.exists():
            unfinished = self.scratch / f"data.{os.getpid()}"
            train, val = (_REHEARSAL_TRAIN_IMAGES, _REHEARSAL_VAL_IMAGES) if self.rehearses else (
                _TRAIN_IMAGES, _VAL_IMAGES,
            )  # fmt: skip
            _write_names(unfinished, self._originals(), train=train, val=val)
            unfinished.rename(folder)
        return folder

    def _originals(self) -> list[Path]:
        photos = [] if self.photos is None else list_images(self.photos)
        if photos:
            return photos
        drawn = self.scratch / "drawn"
        write_leaves(drawn, train=32, val=4, test=4, size=400)
        return list_images(drawn)


def _write_names(folder: Path, originals: list[Path], *, train: int, val: int) -> None:
    for split, count in (("train", train), ("val", val)):
        for number in range(count):
            original = originals[number % len(originals)]
            name = folder / split / f"class-{number % CLASSES}" / f"{number}{original.suffix.lower()}"
            name.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(original, name)
            except OSError:  # another file system
                name.symlink_to(original.resolve())


def take_step(setup: TrainingSetup, batch: Batch, step: int) -> None:
    """Do what the trainer does for one batch, without its messages and checkpoints."""
    set_lr(setup.optimizer, lr_at(step, setup.schedule))
    torch.manual_seed(mix(setup.config.seed, step))
    train_step(setup, batch, say=say)
    if setup.ema:
        setup.ema.update()


def say(line: str) -> None:
    """Print a line of the trainer's to stderr, at once."""
    print(f"        | {line}", file=sys.stderr, flush=True)


def synchronize(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.synchronize(place)


def card_name(place: torch.device) -> str:
    """Return the GPU's name; empty for a CPU."""
    return torch.cuda.get_device_name(place) if place.type == "cuda" else ""


def on_the_device(batch: Batch, place: torch.device) -> Batch:
    """Return `batch` with all its tensors on `place`."""
    assert batch.augment_params is not None
    return Batch(batch.images.to(place), batch.labels.to(place), batch.augment_params.to(place))


def batch_of(setup: TrainingSetup, count: int) -> Batch:
    """Return `count` images on the session's device: the first batch of epoch 1, repeated or cut."""
    first = next(iter(setup.train_loader.epoch(1)))
    times = -(-count // len(first.labels))
    assert first.augment_params is not None
    whole = [torch.cat([one] * times)[:count] for one in (first.images, first.labels, first.augment_params)]
    return on_the_device(Batch(*whole), setup.device.torch_device)
