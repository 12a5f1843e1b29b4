"""Measure what compiling the champion takes and gains, with nothing compiled before and with the compiler's cache."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import torch
from torch._dynamo.utils import compile_times

from benchmarks.gpu.figures import Figures
from benchmarks.gpu.setting import Setting, batch_of, card_name, say, synchronize, take_step
from benchmarks.gpu.with_parent import command_with_parent, environment_with_parent
from benchmarks.machine import CHECKOUT
from trainer.autotune import compiling
from trainer.autotune.compiling import compile_model
from trainer.autotune.tuning import tune
from trainer.distributed.stop import StopFlag
from trainer.session.setup import TrainingSetup

_COUNT, _STEPS = 64, 20
TIMES_FILE = "compile-times.txt"


def run(setting: Setting, figures: Figures) -> None:
    """Compile in this process, then in another, as a resume would."""
    measure(setting, figures, "nothing compiled before")
    command = command_with_parent("benchmarks.gpu.compiled", str(setting.out), str(setting.scratch))
    if setting.photos is not None:
        command.append(str(setting.photos))
    command += ["--rehearse"] if setting.rehearses else []
    done = subprocess.run(command, cwd=CHECKOUT, env=environment_with_parent(), check=False)
    if done.returncode:
        figures.add("seconds, with the compiler's cache", None, note=f"its process ended with {done.returncode}")


def measure(setting: Setting, figures: Figures, when: str) -> None:
    """Compile the champion for 64 images at once, and time its step."""
    if setting.rehearses:
        compiling.BACKEND = "aot_eager"  # a CPU's code takes a minute
    setup = setting.setup(compile="off", micro_batch=_COUNT)
    tune(setup, stop=StopFlag(), say=say)
    if setup.device.is_cuda:
        torch.cuda.reset_peak_memory_stats()
    size = setup.config.image_size
    tried = compile_model(
        setup.model, setup.device, counts=[_COUNT], size=size, must_be_faster=False, heartbeat=lambda: None
    )  # fmt: skip
    figures.add(f"seconds, {when}", tried.seconds if tried.compiled else None, "s", note=tried.failure or "")
    if tried.compiled is None:
        return
    assert tried.rates is not None
    fast, slow = tried.rates
    figures.add("compiled against eager", fast / slow, "times", note=f"{fast:.0f} and {slow:.0f} images/s, {when}")
    setup.model.compiled = tried.compiled
    if setup.device.is_cuda:
        figures.add("peak memory, compiled, 64 at once", torch.cuda.max_memory_allocated() / 1e9, "GB", note=when)
    figures.add("whole step, compiled, 64 at once", _step_rate(setup), "images/s", note=when)
    with (setting.out / TIMES_FILE).open("a") as file:
        file.write(f"{when}\n{compile_times('str')}\n\n")


def _step_rate(setup: TrainingSetup) -> float:
    batch, place = batch_of(setup, _COUNT), setup.device.torch_device
    setup.model.train()
    for number in range(3):
        take_step(setup, batch, number)
    synchronize(place)
    began = time.perf_counter()
    steps = _STEPS if setup.device.is_cuda else 2
    for number in range(steps):
        take_step(setup, batch, number)
    synchronize(place)
    return _COUNT * steps / (time.perf_counter() - began)


if __name__ == "__main__":
    paths = [Path(one) for one in sys.argv[1:] if not one.startswith("--")]
    again = Setting(paths[0], paths[1], paths[2] if len(paths) > 2 else None, None, "--rehearse" in sys.argv)
    measure(again, Figures(again.out, part="compile", card=card_name(again.place)), "with the compiler's cache")
