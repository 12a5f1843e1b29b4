"""Measure images per second of the loader alone, of the model alone, and of both together."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from cloudrun.recipe.train_config import TrainConfig
from trainer.autotune.tuning import tune
from trainer.data.leaves import write_leaves
from trainer.data.loader import Batch
from trainer.distributed.stop import StopFlag
from trainer.session.build import build_setup
from trainer.session.setup import TrainingSetup
from trainer.session.step import train_step

_WARMUP_STEPS = 2


def bench(config: TrainConfig, *, data: Path | None, steps: int, say: Callable[[str], None]) -> dict[str, float | str]:
    """Measure `steps` steps of each; the slower of loader and step limits both together."""
    with tempfile.TemporaryDirectory() as scratch:
        if data is None:
            data = Path(scratch) / "leaves"
            write_leaves(data, size=256)
        setup = build_setup(config.model_copy(update={"pretrained": False}), data)
        for line in setup.describe():
            say(line)
        tune(setup, stop=StopFlag(), say=say)
        setup.model.train()
        batches = _endless(setup)
        batch = next(batches)
        figures: dict[str, float | str] = {"device": setup.device.describe()}
        figures["loader_images_per_s"] = _speed(setup, steps, lambda: len(next(batches).labels))
        figures["step_images_per_s"] = _speed(setup, steps, lambda: _step(setup, batch, say))
        figures["whole_images_per_s"] = _speed(setup, steps, lambda: _step(setup, next(batches), say))
        setup.close()
        return figures


def _endless(setup: TrainingSetup) -> Iterator[Batch]:
    epoch = 0
    while True:
        epoch += 1
        yield from setup.train_loader.epoch(epoch)


def _step(setup: TrainingSetup, batch: Batch, say: Callable[[str], None]) -> int:
    train_step(setup, batch, say=say)
    return len(batch.labels)


def _speed(setup: TrainingSetup, steps: int, act: Callable[[], int]) -> float:
    """Return images per second of `act`, which returns how many it took."""
    for _ in range(_WARMUP_STEPS):
        act()
    _wait(setup)
    began = time.perf_counter()
    images = sum(act() for _ in range(steps))
    _wait(setup)
    return round(images / (time.perf_counter() - began), 1)


def _wait(setup: TrainingSetup) -> None:
    if setup.device.is_cuda:
        torch.cuda.synchronize()
