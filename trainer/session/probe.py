"""Passes with made-up images, to be timed or to see whether they fit: the model is afterwards what it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

from trainer.session.device import Device

# How allocators other than CUDA's say it: torch's on a CPU, oneDNN, the C++ library, cuDNN and cuBLAS.
_NO_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "Cannot allocate memory",
    "could not create a primitive",
    "could not create a memory object",
    "bad_alloc",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA error: out of memory",
)
# Said where memory is short, and of what the card cannot do: cuDNN's workspaces, cuBLAS's handle.
_PERHAPS_NO_MEMORY = ("was unable to find an engine to execute this computation", "CUBLAS_STATUS_NOT_INITIALIZED")
_TIGHT = 0.25  # of the card's memory, what is left


@contextmanager
def restored_after(model: nn.Module) -> Iterator[None]:
    """In here `model` trains; buffers (batch norms' statistics), random numbers and its mode are put back afterwards.

    Gradients are gone; weights are nobody's to change in here.
    """
    device = next(model.parameters()).device
    before = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    was_training = model.training
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        model.train()
        try:
            yield
        finally:
            release(model)
            for name, buffer in model.named_buffers():
                buffer.detach().copy_(before[name])
            model.train(was_training)


def make_images(count: int, *, size: int, device: Device) -> Tensor:
    """float32 (count, 3, size, size): normalised images are about as noise."""
    return torch.randn(count, 3, size, size, device=device.torch_device)


def run_pass(forward: Callable[[Tensor], Tensor], images_BCHW: Tensor, device: Device) -> None:
    """Forward and backward as a step does them; gradients add up."""
    with device.autocast():
        out = forward(images_BCHW)
    torch.autograd.backward(out, torch.ones_like(out))


def seconds_of(act: Callable[[], None], *, device: Device, warmups: int, most: int, most_s: float) -> float:
    """The median over `most` times, or fewer where `most_s` would be over; after `warmups`, which are not counted.

    The device is not waited for between two of them, as in training: what the CPU takes meanwhile is hidden.
    """
    began = time.perf_counter()
    for _ in range(warmups):
        wait_for(device)
        began = time.perf_counter()
        act()
    wait_for(device)
    last_s = max(time.perf_counter() - began, 1e-9)
    times = max(1, min(most, int(most_s / last_s)))
    if device.is_cuda:
        stamps = [torch.cuda.Event(enable_timing=True) for _ in range(times + 1)]  # type: ignore[no-untyped-call]
        stamps[0].record()
        for stamp in stamps[1:]:
            act()
            stamp.record()
        wait_for(device)
        taken = [float(one.elapsed_time(other)) / 1000 for one, other in pairwise(stamps)]
    else:
        moments = [time.perf_counter()]
        for _ in range(times):
            act()
            moments.append(time.perf_counter())
        taken = [later - earlier for earlier, later in pairwise(moments)]
    return sorted(taken)[len(taken) // 2]


def is_out_of_memory(err: RuntimeError) -> bool:
    text = str(err)
    if isinstance(err, torch.OutOfMemoryError) or any(words in text for words in _NO_MEMORY):
        return True
    return any(words in text for words in _PERHAPS_NO_MEMORY) and _memory_is_tight()


def _memory_is_tight() -> bool:
    if not torch.cuda.is_available():
        return False
    free, whole = torch.cuda.mem_get_info()
    return free < _TIGHT * whole


def release(model: nn.Module) -> None:
    """Give back the gradients, and on a GPU the allocator's free blocks."""
    for parameter in model.parameters():
        parameter.grad = None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def wait_for(device: Device) -> None:
    if device.is_cuda:
        torch.cuda.synchronize(device.torch_device)
