"""Measure what a run finds out at its start: memory formats, cuDNN's search, the memory of so many images."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from benchmarks.gpu.figures import Figures
from benchmarks.gpu.setting import Setting, say, synchronize
from trainer.autotune.memory_format import measure_formats, set_memory_formats
from trainer.autotune.tuning import tune
from trainer.distributed.stop import StopFlag
from trainer.session.probe import is_out_of_memory, make_images, release, restored_after, run_pass
from trainer.session.setup import TrainingSetup

_COUNTS = (64, 128, 256)
_NEW_SIZES = (61, 60)  # images at once that cuDNN has not seen before
_ODD = 63


def run(setting: Setting, figures: Figures) -> None:
    """Measure each thing by itself, then the whole of it as a run does it."""
    setup = setting.setup()
    _formats(setup, figures)
    set_memory_formats(setup, setup.model.format_names())
    for count in _NEW_SIZES:
        note = f"{count} images at once, first pass less the third"
        figures.add("cuDNN's search for one new size", _search_s(setup, count), "s", note=note)
    for count in _COUNTS:
        figures.add(f"peak memory, {count} at once", _peak_gb(setup, count), "GB", note=_held(setup))
    fresh = setting.setup()
    lines: list[str] = []

    def hear(line: str) -> None:
        say(line)
        lines.append(line)

    began = time.perf_counter()
    tune(fresh, stop=StopFlag(), say=hear)
    figures.add("seconds before the first step", time.perf_counter() - began, "s", note="; ".join(lines))


def _formats(setup: TrainingSetup, figures: Figures) -> None:
    names = setup.config.backbones
    searched = torch.backends.cudnn.benchmark
    for searches in (False, True):
        torch.backends.cudnn.benchmark = searches
        rates = measure_formats(setup.model, setup.device, count=_ODD, size=setup.config.image_size)
        for name, of_format in zip(names, rates, strict=True):
            note = f"cuDNN {'searches' if searches else 'does not search'}, {_ODD} at once"
            for format_name, rate in of_format.items():
                figures.add(f"{name}: {format_name.replace('_', ' ')}", rate, "images/s", note=note)
            if len(of_format) == 2 and searches:
                ratio = of_format["channels_last"] / of_format["contiguous"]
                figures.add(f"{name}: channels last against contiguous", ratio, "times", note=note)
    torch.backends.cudnn.benchmark = searched


def _search_s(setup: TrainingSetup, count: int) -> float:
    """Return how much longer the first pass of `count` images takes than the third."""
    images = make_images(count, size=setup.config.image_size, device=setup.device)
    place, taken = setup.device.torch_device, []
    with restored_after(setup.model):
        for _ in range(3):
            synchronize(place)
            began = time.perf_counter()
            run_pass(setup.model.logits, images, setup.device)
            synchronize(place)
            taken.append(time.perf_counter() - began)
    return taken[0] - taken[2]


def _peak_gb(setup: TrainingSetup, count: int) -> float | None:
    """Return the peak of forward and backward; None where memory runs out, or on a CPU."""
    if not setup.device.is_cuda:
        return None

    def act() -> None:
        with restored_after(setup.model):
            images = make_images(count, size=setup.config.image_size, device=setup.device)
            run_pass(setup.model.logits, images, setup.device)

    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.max_memory_allocated() / 1e9 if _fits(act, setup) else None


def _fits(act: Callable[[], None], setup: TrainingSetup) -> bool:
    try:
        act()
    except RuntimeError as err:
        if not is_out_of_memory(err):
            raise
        release(setup.model)
        return False
    return True


def _held(setup: TrainingSetup) -> str:
    return f"reserved {torch.cuda.max_memory_reserved() / 1e9:.1f} GB" if setup.device.is_cuda else "no GPU"
