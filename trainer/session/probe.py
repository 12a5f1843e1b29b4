"""Run passes with random images, to time them or to see whether they fit; the model is restored afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

from trainer.session.device import Device

# Messages of allocators other than CUDA's: torch's on a CPU, oneDNN, the C++ library, cuDNN and cuBLAS.
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
# Messages for a lack of memory (cuDNN's workspaces, cuBLAS's handle), and for what the card cannot do.
_PERHAPS_NO_MEMORY = ("was unable to find an engine to execute this computation", "CUBLAS_STATUS_NOT_INITIALIZED")
_TIGHT = 0.25  # share of the card's memory that is free


@contextmanager
def restored_after(model: nn.Module) -> Iterator[None]:
    """Let `model` train in the context, and restore it afterwards.

    Buffers (batch norms' statistics), random numbers and the mode are restored; gradients are removed. Weights must not
    be changed in the context.
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
    """Return float32 (count, 3, size, size) of noise, which normalised images resemble."""
    return torch.randn(count, 3, size, size, device=device.torch_device)


def run_pass(forward: Callable[[Tensor], Tensor], images_BCHW: Tensor, device: Device) -> None:
    """Run forward and backward as a step does; gradients add up."""
    with device.autocast():
        out = forward(images_BCHW)
    torch.autograd.backward(out, torch.ones_like(out))


def seconds_of(act: Callable[[], None], *, device: Device, warmups: int, most: int, most_s: float) -> float:
    """Return the median seconds of `act` over `most` calls, or fewer where `most_s` would be exceeded, after `warmups`.

    The device is not waited for between two calls, as in training, so that the time of the CPU is hidden.
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
        taken = [float(start.elapsed_time(end)) / 1000 for start, end in pairwise(stamps)]
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
    """Free the gradients, and on a GPU the unused blocks of the allocator."""
    for parameter in model.parameters():
        parameter.grad = None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def wait_for(device: Device) -> None:
    if device.is_cuda:
        torch.cuda.synchronize(device.torch_device)
