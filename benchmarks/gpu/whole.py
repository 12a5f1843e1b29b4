"""Time the whole trainer, its own ceiling, and the loop that most people publish, in turn.

The ceiling is the same step on one batch that lies on the device. The naive loop is PIL transforms in a DataLoader,
fp16 with a GradScaler, eager, NCHW, with torch's settings as a new process has them.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median

import torch
from torch.utils.data import DataLoader

from benchmarks.gpu.figures import Figures
from benchmarks.gpu.setting import Setting, on_the_device, say, synchronize, take_step
from benchmarks.trainer import Reference
from cloudrun.recipe.gmacs import work_of
from trainer.autotune.tuning import tune
from trainer.data.loader import Batch
from trainer.distributed.stop import StopFlag
from trainer.model.ensemble import build_model
from trainer.session.setup import TrainingSetup

_ROUNDS = 3
_NAIVE_WORKERS = 8


def run(setting: Setting, figures: Figures) -> None:
    setup = setting.setup()
    tune(setup, stop=StopFlag(), say=say)
    setup.model.train()
    place = setup.device.torch_device
    batch = None
    began = time.perf_counter()
    for batch in setup.train_loader.epoch(1):  # decodes, and fills the cache
        take_step(setup, batch, 0)
    synchronize(place)
    assert batch is not None
    files = len(setup.train_files)
    figures.add("first epoch, each photo decoded", files / (time.perf_counter() - began), "images/s")
    _whole_epoch(setup, 2)  # checks each image of the cache once
    naive = NaiveLoop(setup)
    speeds: dict[str, list[float]] = {"ceiling": [], "whole trainer": [], "naive loop": []}
    for number in range(3, 3 + (1 if setting.rehearses else _ROUNDS)):
        _add(figures, speeds, "ceiling", _speed(place, partial(_same_batch, setup, batch)))
        with _watched(place, figures):
            speed = _speed(place, partial(_whole_epoch, setup, number))
        _add(figures, speeds, "whole trainer", speed)
        with _as_a_new_process(place):
            _add(figures, speeds, "naive loop", _speed(place, naive.epoch))
        _ratios(figures, speeds)
    flops = _flops(setup)
    if flops:
        figures.add("whole trainer, arithmetic", median(speeds["whole trainer"]) * flops / 1e12, "TFLOP/s")
    setup.close()


def _add(figures: Figures, speeds: dict[str, list[float]], name: str, speed: float) -> None:
    speeds[name].append(speed)
    figures.add(name, speed, "images/s", note=f"round {len(speeds[name])}")


def _ratios(figures: Figures, speeds: dict[str, list[float]]) -> None:
    whole, ceiling, naive = (speeds[name][-1] for name in ("whole trainer", "ceiling", "naive loop"))
    figures.add("whole trainer against its ceiling", whole / ceiling, "times")
    figures.add("whole trainer against the naive loop", whole / naive, "times")


class NaiveLoop:
    """Trains with the loop with which the recipe is usually published."""

    def __init__(self, setup: TrainingSetup) -> None:
        self._place = setup.device.torch_device
        config, classes = setup.config, len(setup.dataset.classes)
        self._model = build_model(config, classes=classes).to(self._place)
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=1e-4)
        self._scaler = torch.amp.GradScaler(self._place.type, enabled=setup.device.is_cuda)
        self._dtype = torch.float16 if setup.device.is_cuda else torch.bfloat16
        self._batches = DataLoader(
            Reference(setup.train_files, config), setup.batch_size, shuffle=True, num_workers=_NAIVE_WORKERS,
            drop_last=True, pin_memory=setup.device.is_cuda,
        )  # fmt: skip

    def epoch(self) -> int:
        """Train one epoch; return how many images it took."""
        count = 0
        for images, labels in self._batches:
            self._optimizer.zero_grad()
            with torch.autocast(self._place.type, dtype=self._dtype):
                logits = self._model(images.to(self._place))
                loss = torch.nn.functional.cross_entropy(logits, labels.to(self._place), label_smoothing=0.1)
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self._scaler.step(self._optimizer)
            self._scaler.update()
            count += len(labels)
        return count


@contextmanager
def _as_a_new_process(place: torch.device) -> Iterator[None]:
    """Set torch as in a new process while the block runs: cuDNN does not search, and products do not use TF32."""
    if place.type != "cuda":
        yield
        return
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")


def _speed(place: torch.device, act: Callable[[], int]) -> float:
    synchronize(place)
    began = time.perf_counter()
    images = act()
    synchronize(place)
    return images / (time.perf_counter() - began)


def _same_batch(setup: TrainingSetup, batch: Batch) -> int:
    there = on_the_device(batch, setup.device.torch_device)
    for _ in range(setup.steps_per_epoch):
        take_step(setup, there, 0)
    return setup.steps_per_epoch * len(batch.labels)


def _whole_epoch(setup: TrainingSetup, number: int) -> int:
    count = 0
    for batch in setup.train_loader.epoch(number):
        take_step(setup, batch, 0)
        count += len(batch.labels)
    return count


def _flops(setup: TrainingSetup) -> float:
    """Return the floating-point operations of a step for one image, of the backbones for which they are known.

    The backward pass counts as two forward passes.
    """
    work = [work_of(name, setup.config.image_size) for name in setup.config.backbones]
    return sum(one.gmacs for one in work if one is not None) * 1e9 * 2 * 3


@contextmanager
def _watched(place: torch.device, figures: Figures) -> Iterator[None]:
    """Ask nvidia-smi five times a second while the block runs, and add the medians of its answers."""
    if place.type != "cuda":
        yield
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu,power.draw", "--format=csv,noheader,nounits", "-lms", "200"]
    try:
        watch = subprocess.Popen([*query, "-i", "0"], stdout=subprocess.PIPE, text=True)
    except OSError as err:
        figures.add("a kernel runs, whole trainer", None, note=str(err))
        yield
        return
    with watch:
        yield
        watch.terminate()
        said = watch.communicate()[0].splitlines()
    rows = [line.split(",") for line in said if line.count(",") == 1]
    for name, unit, column in (("a kernel runs", "% of the time", 0), ("power", "W", 1)):
        values = [float(row[column]) for row in rows if row[column].strip().replace(".", "").isdigit()]
        if values:
            figures.add(f"{name}, whole trainer", median(values), unit)
