"""Measure how fast the card could train: one batch again and again, where its time goes, what checkpoints cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count as count_up
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.figures import Figures
from benchmarks.gpu.setting import Setting, batch_of, say, synchronize, take_step
from trainer.autotune.memory_format import set_memory_formats
from trainer.autotune.tuning import tune
from trainer.data.affine import augment
from trainer.data.augment import normalise
from trainer.distributed.stop import StopFlag
from trainer.outputs.writer import snapshot
from trainer.session.device import Device
from trainer.session.probe import make_images, restored_after, run_pass
from trainer.session.setup import TrainingSetup

_COUNTS = (64, 128, 256)
_PASSES, _REHEARSED_PASSES = 12, 2
_PROFILED = 5
_KERNELS = 30
_SPREAD = 5.0  # standard deviation of a trained network's logits, about
KERNELS_FILE = "kernels.txt"


def run(setting: Setting, figures: Figures) -> None:
    """Measure the eager step at several sizes, and its parts at one."""
    setup = setting.setup(compile="off", ema_decay=0.999, micro_batch=max(_COUNTS))
    tune(setup, stop=StopFlag(), say=say)
    for count in _COUNTS[:1] if setting.rehearses else _COUNTS:
        _rates(setup, figures, count)
    _without_average(setting, figures)
    _augmentation(setup, figures)
    _precisions(setup, figures)
    _checkpoint(setup, figures, setting.scratch)
    _profile(setup, figures, setting.out)


def _rates(setup: TrainingSetup, figures: Figures, count: int) -> None:
    """Measure the pass alone and the whole step, and how long the host and the device take for the step."""
    device, place = setup.device, setup.device.torch_device
    images = make_images(count, size=setup.config.image_size, device=device)
    with restored_after(setup.model):
        alone_s, _ = _seconds(place, lambda: run_pass(setup.model.logits, images, device))
    figures.add(f"forward and backward, {count} at once", count / alone_s, "images/s")
    batch, steps = batch_of(setup, count), count_up()
    setup.micro_batch = count
    setup.model.train()
    whole_s, host_s = _seconds(place, lambda: take_step(setup, batch, next(steps)))
    figures.add(f"whole step, {count} at once", count / whole_s, "images/s", note="with averaged weights")
    note = "until the device has been given all of it"
    figures.add(f"host time of a step, {count} at once", host_s * 1e3, "ms", note=note)
    figures.add(f"device time of a step, {count} at once", whole_s * 1e3, "ms")


def _without_average(setting: Setting, figures: Figures) -> None:
    setup = setting.setup(compile="off")
    set_memory_formats(setup, setup.model.format_names())
    batch, steps = batch_of(setup, _COUNTS[0]), count_up()
    setup.model.train()
    whole_s, host_s = _seconds(setup.device.torch_device, lambda: take_step(setup, batch, next(steps)))
    note = f"host {host_s * 1e3:.1f} ms"
    figures.add("whole step without averaged weights, 64 at once", _COUNTS[0] / whole_s, "images/s", note=note)


def _seconds(place: torch.device, act: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of a call on the device, and the seconds after which the host was done with the call.

    The device's seconds are measured over all calls, which follow each other without waiting. The host's are the lowest
    of all calls: later calls wait for the device once its queue is full.
    """
    for _ in range(3 if place.type == "cuda" else 1):
        act()
    synchronize(place)
    passes = _PASSES if place.type == "cuda" else _REHEARSED_PASSES
    host, began = [], time.perf_counter()
    for _ in range(passes):
        called = time.perf_counter()
        act()
        host.append(time.perf_counter() - called)
    synchronize(place)
    return (time.perf_counter() - began) / passes, min(host)


def _augmentation(setup: TrainingSetup, figures: Figures) -> None:
    batch, size = batch_of(setup, _COUNTS[0]), setup.config.image_size
    augment_params = batch.augment_params
    assert augment_params is not None
    seconds, _ = _seconds(setup.device.torch_device, lambda: augment(batch.images, augment_params, size=size))
    figures.add("augmentation, 64 at once", seconds * 1e3, "ms")


def _precisions(setup: TrainingSetup, figures: Figures) -> None:
    """Compare logits of the evaluation in each precision with float32's, scaled as a trained network's are."""
    size = setup.config.image_size
    inputs = normalise(batch_of(setup, _COUNTS[0]).images)[..., :size, :size]
    setup.model.eval()
    _allow_tf32(is_allowed=False)
    exact = _logits(setup, inputs, torch.float32)
    _allow_tf32(is_allowed=True)
    scale = _SPREAD / float(exact.std())
    types = {"bf16": torch.bfloat16, "TF32": torch.float32}
    if setup.device.is_cuda:
        types["fp16"] = torch.float16
    for name, dtype in types.items():
        act = partial(_logits, setup, inputs, dtype)
        found = act()
        error = ((found - exact) * scale).square().mean().sqrt()
        change = (torch.softmax(found * scale, 1) - torch.softmax(exact * scale, 1)).abs().max()
        taken_s, _ = _seconds(setup.device.torch_device, act)
        note = f"largest change of a probability {float(change):.4f}; {len(inputs) / taken_s:.0f} images/s"
        figures.add(f"validation in {name}: rms error of a logit", float(error), note=note)
    setup.model.train()


def _allow_tf32(*, is_allowed: bool) -> None:
    torch.backends.cudnn.allow_tf32 = is_allowed
    torch.set_float32_matmul_precision("high" if is_allowed else "highest")


def _logits(setup: TrainingSetup, inputs: Tensor, dtype: torch.dtype) -> Tensor:
    device: Device = replace(setup.device, autocast_dtype=dtype)
    with torch.inference_mode(), device.autocast():
        logits: Tensor = setup.model.logits(inputs).float()
    return logits


def _checkpoint(setup: TrainingSetup, figures: Figures, folder: Path) -> None:
    state = {
        "model": setup.model.state_dict(),
        "optimizer": setup.optimizer.state_dict(),
        "ema": setup.ema.state_dict() if setup.ema else None,
    }
    synchronize(setup.device.torch_device)
    began = time.perf_counter()
    copy = snapshot(state)
    figures.add("a checkpoint's copy to the CPU", time.perf_counter() - began, "s", note="the device waits meanwhile")
    began = time.perf_counter()
    path = folder / "state.pt"
    torch.save(copy, path)
    note = f"{path.stat().st_size / 1e6:.0f} MB"
    figures.add("a checkpoint on the disk", time.perf_counter() - began, "s", note=note)
    path.unlink()


def _profile(setup: TrainingSetup, figures: Figures, out: Path) -> None:
    """Write the kernels that take most of the time to a file."""
    place, is_cuda = setup.device.torch_device, setup.device.is_cuda
    batch = batch_of(setup, _COUNTS[0])
    with profile(activities=[ProfilerActivity.CUDA if is_cuda else ProfilerActivity.CPU]) as seen:
        for number in range(_PROFILED):
            take_step(setup, batch, number)
        synchronize(place)
    events = seen.key_averages()
    order = "self_cuda_time_total" if is_cuda else "self_cpu_time_total"
    (out / KERNELS_FILE).write_text(events.table(sort_by=order, row_limit=_KERNELS, max_name_column_width=90))
    note = f"the first {_KERNELS} in {KERNELS_FILE}"
    figures.add("kernels of a step", sum(one.count for one in events) / _PROFILED, note=note)
