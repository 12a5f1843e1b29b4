"""Measure what the trainer itself takes of the host's time in a step of the champion, with kernels that do nothing.

A GPU that finishes a step sooner than the host waits for it. Clipping, AdamW, the average of the weights and what is
noted of a step run on a CPU with a single number in place of each weight, so that Python and torch's dispatch are left.
Forward and backward are not among it: timm's modules and autograd run them.

python -m benchmarks.host_step [STEPS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from benchmarks.machine import heading
from cloudrun.recipe.train_config import TrainConfig
from trainer.data.leaves import write_leaves
from trainer.model.optim import make_optimizer, set_lr
from trainer.session.build import build_setup
from trainer.session.epoch_stats import FirstBadStep
from trainer.session.setup import TrainingSetup, average_of
from trainer.session.step import learn

_IMAGES = 64
_WARMUPS = 2


def measure(steps: int) -> dict[str, float]:
    """Return the median milliseconds of each part of a step."""
    with tempfile.TemporaryDirectory() as folder:
        write_leaves(Path(folder), train=_IMAGES, val=4, test=4, size=64)
        config = TrainConfig(
            pretrained=False, device="cpu", batch_size=_IMAGES, workers=0, cache_gb=0, ema_decay=0.999
        )  # fmt: skip
        setup = build_setup(config, Path(folder))
    setup.model.train()
    _shrink(setup)
    place = torch.device("cpu")
    ema, bad, stats = setup.ema, FirstBadStep(place), setup.new_epoch_stats()
    assert ema is not None
    loss_sum, correct = torch.zeros(()), torch.zeros((), dtype=torch.int64)
    result = learn(setup, loss_sum, correct)

    def note() -> None:
        set_lr(setup.optimizer, 1e-3)
        bad.note(1, result)
        stats.add(result, images=_IMAGES)

    return {
        "clipping and AdamW": _ms(lambda: learn(setup, loss_sum, correct), steps),
        "average of the weights": _ms(ema.update, steps),
        "rate, loss and the first bad step": _ms(note, steps),
    }


def _shrink(setup: TrainingSetup) -> None:
    """Put a single number in place of each parameter and buffer, and a gradient beside each parameter."""
    for module in setup.model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            setattr(module, name, torch.nn.Parameter(torch.zeros([1] * weight.ndim)))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.zeros([1] * buffer.ndim, dtype=buffer.dtype))
    setup.optimizer, setup.ema = make_optimizer(setup.model, setup.config), average_of(setup.model, setup.config)
    for weight in setup.model.parameters():
        weight.grad = torch.zeros_like(weight)


def _ms(act: Callable[[], object], steps: int) -> float:
    """Return the median milliseconds of CPU time: other work on the machine would count as ours by the clock."""
    taken = []
    for _ in range(_WARMUPS + steps):
        began = time.process_time()
        act()
        taken.append(1000 * (time.process_time() - began))
    return median(taken[_WARMUPS:])


if __name__ == "__main__":
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    print(heading())
    print(f"| part of a step of {_IMAGES} images, median of {count} | ms |\n| --- | --- |")
    parts = measure(count)
    for part, taken in {**parts, "in all": sum(parts.values())}.items():
        print(f"| {part} | {taken:.1f} |")
