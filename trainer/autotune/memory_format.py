"""Measure which memory format each backbone is faster in: no rule is right for all of timm's models on every GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from trainer.model.ensemble import MEMORY_FORMATS, Ensemble
from trainer.model.optim import align_moments
from trainer.session.device import Device
from trainer.session.probe import is_out_of_memory, make_images, release, restored_after, run_pass, seconds_of

if TYPE_CHECKING:
    from trainer.session.setup import TrainingSetup

# The first pass loads kernels and has cuDNN search its algorithms.
_WARMUPS, _PASSES = 2, 5
_MOST_S = 3.0

Rates = dict[str, float]
"""Memory format -> images per second, forward and backward; a format in which the backbone fails is missing."""


def measure_formats(model: Ensemble, device: Device, *, count: int, size: int) -> list[Rates]:
    """Measure each backbone with `count` images of `size` px at once, or half as many where memory runs out, and so on.

    The backbones are left in any format: call `set_memory_formats` afterwards.
    """
    with restored_after(model):
        return [_rates(backbone, device, count=count, size=size) for backbone in model.backbones.values()]


def faster(rates: Rates, *, otherwise: str) -> str:
    """Return the faster format; `otherwise` where nothing was measured."""
    return max(rates, key=rates.__getitem__, default=otherwise)


def slowest(processes: Sequence[Rates]) -> Rates:
    """Combine the rates of several processes: a run is as fast as its slowest, and a format has to work in each."""
    return {
        name: min(rates[name] for rates in processes)
        for name in MEMORY_FORMATS
        if all(name in rates for rates in processes)
    }


def set_memory_formats(setup: TrainingSetup, formats: Sequence[str]) -> None:
    """Put the model into `formats`, and with it moments, averages and gradient buffers."""
    setup.model.set_memory_formats(formats)
    align_moments(setup.optimizer)
    if setup.ema:
        setup.ema.match_memory_formats()
    if setup.gradients:
        setup.gradients.match_memory_formats()


def _rates(backbone: nn.Module, device: Device, *, count: int, size: int) -> Rates:
    while count >= 2:
        try:
            return _rates_of_batch(backbone, device, count=count, size=size)
        except RuntimeError as err:
            if not is_out_of_memory(err):
                raise
        # Outside the handler: the exception would keep the failed pass's tensors alive.
        release(backbone)
        count //= 2
    return {}


def _rates_of_batch(backbone: nn.Module, device: Device, *, count: int, size: int) -> Rates:
    images = make_images(count, size=size, device=device)
    rates: Rates = {}
    for name, memory_format in MEMORY_FORMATS.items():
        backbone.to(memory_format=memory_format)

        def act(memory_format: torch.memory_format = memory_format) -> None:
            run_pass(lambda images: backbone(images.contiguous(memory_format=memory_format)), images, device)

        try:
            rates[name] = count / seconds_of(act, device=device, warmups=_WARMUPS, most=_PASSES, most_s=_MOST_S)
        except RuntimeError as err:
            if is_out_of_memory(err):
                raise
            # Some models call view() on tensors that this format does not allow; any other fault shows in training.
        release(backbone)
    return rates
