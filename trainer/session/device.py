"""Choose the device and its precision from the config and what torch finds."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from cloudrun.recipe.train_config import TrainConfig
from trainer.distributed.ranks import ALONE, Ranks
from trainer.errors import TrainerError

_TINY_PARAMETERS = 1_000_000
# glibc's mallopt parameters (malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


@dataclass(frozen=True, slots=True)
class Device:
    """A device, its autocast type (float32: no autocast) and their names."""

    torch_device: torch.device
    autocast_dtype: torch.dtype
    precision: str
    gpu_name: str | None
    memory_gb: float | None

    @property
    def is_cuda(self) -> bool:
        return self.torch_device.type == "cuda"

    @property
    def evaluation_dtypes(self) -> tuple[torch.dtype, ...]:
        """The types to evaluate in: the first in which all logits are finite.

        fp16 is as fast as bf16 and rounds an eighth as much, which ranks, thresholds and log losses show. float32 is
        TF32 on a GPU that has it.
        """
        is_mixed = self.is_cuda and self.autocast_dtype != torch.float32
        return (torch.float16, torch.float32) if is_mixed else (torch.float32,)

    def autocast(self, dtype: torch.dtype | None = None) -> torch.autocast:
        """Return a context that computes in `dtype`; None: as training does."""
        wanted = dtype or self.autocast_dtype
        return torch.autocast(self.torch_device.type, dtype=wanted, enabled=wanted != torch.float32)

    @contextmanager
    def algorithms_by_rule(self, *, is_on: bool = True) -> Iterator[None]:
        """Have cuDNN choose algorithms by rule in the context, where `is_on`.

        Its search takes seconds for each size of images and of batches, which evaluation and images that still grow do
        not repay.
        """
        before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = before and not is_on
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = before

    def describe(self) -> str:
        if not self.is_cuda:
            return f"CPU, {torch.get_num_threads()} threads, {self.precision}"
        return f"{self.gpu_name}, {self.memory_gb:.0f} GB, {self.precision}"


def choose_device(config: TrainConfig, environment: Mapping[str, str] = os.environ, *, ranks: Ranks = ALONE) -> Device:
    """Return the device that `config` asks for; of several processes on a machine each has its own GPU.

    A GPU that was asked for must work: with `device: cuda`, or with CLOUDRUN_EXPECT_GPU=1 unless `device: cpu`,
    TrainerError names what torch finds, instead of training for hours on a CPU.
    """
    expected = config.device == "cuda" or (config.device == "auto" and environment.get("CLOUDRUN_EXPECT_GPU") == "1")
    problem = None if config.device == "cpu" else _cuda_problem(ranks.local_rank)
    if expected and problem is not None:
        raise TrainerError(
            f"a GPU was asked for, but torch cannot use one: {problem}",
            hint="check `nvidia-smi` and that torch's CUDA build fits the driver, or set `device: cpu`",
        )
    if config.device == "cpu" or problem is not None:
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        if config.precision == "fp16":
            raise TrainerError("`precision: fp16` needs a GPU", hint="set `precision: auto`")
        return Device(torch.device("cpu"), dtype, "bf16" if dtype == torch.bfloat16 else "fp32", None, None)
    if config.precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise TrainerError(
            f"`precision: bf16` needs a newer GPU: {torch.cuda.get_device_name(ranks.local_rank)} has no bf16",
            hint="set `precision: auto`, which takes fp16 there",
        )
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}.get(config.precision) or (
        torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    )
    name = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}[dtype]
    properties = torch.cuda.get_device_properties(ranks.local_rank)
    place = torch.device("cuda", ranks.local_rank)
    return Device(place, dtype, name, properties.name, properties.total_memory / 1e9)


def _cuda_problem(index: int) -> str | None:
    """Return why GPU `index` cannot be used; None after a kernel ran on it, since `is_available` alone is no proof.

    The GPU is then the current device of this process.
    """
    versions = f"torch {torch.__version__}, built for CUDA {torch.version.cuda}"
    if not torch.cuda.is_available():
        return (
            f"no CUDA device found ({versions}, CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')})"
        )
    count = torch.cuda.device_count()
    if index >= count:
        return f"process {index + 1} of this machine finds {count} GPU(s) ({versions})"
    try:
        torch.cuda.set_device(index)
        torch.ones(2, device="cuda").sum().item()
    except RuntimeError as err:
        return f"GPU {index}: {str(err).splitlines()[0]} ({versions})"
    return None


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(config: TrainConfig, device: Device, *, processes: int = 1) -> int:
    """Return the loader processes of each training process.

    On a CPU the model uses all cores, and one worker decodes ahead.
    """
    if config.workers != "auto":
        return config.workers
    return max(1, min(cores() // processes - 1, 16)) if device.is_cuda else 1


def thread_count(*, parameters: int, processes: int = 1) -> int:
    """Return the threads of the model on a CPU: all cores, but 1 for a tiny model, whose layers are too short to share.

    `processes` share the cores. test_efficientnet + test_resnet (0.5 M parameters) at 64 px: 350 images per CPU-second
    with one thread, 220 with two.
    """
    return 1 if parameters < _TINY_PARAMETERS else max(1, cores() // processes)


def tune_for_cpu() -> None:
    """Keep freed memory: glibc returns large blocks to the kernel, and faults them in again at each step."""
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has none
        return
    for parameter, value in ((_M_MMAP_THRESHOLD, 1 << 25), (_M_TRIM_THRESHOLD, 1 << 30), (_M_TOP_PAD, 1 << 26)):
        mallopt(parameter, value)
