"""Describe the machine: versions, cores, disk, and what the card does at its best."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu.figures import Figures
from benchmarks.gpu.setting import Setting, synchronize
from benchmarks.machine import version_of

_SIDE = 8192  # of the square matrices
_BYTES = 4 << 30
_LAUNCHES = 10_000
_DISK_MB = 256


def run(setting: Setting, figures: Figures) -> None:
    place, is_small = setting.place, setting.rehearses
    packages = ("torch", "torchvision", "timm", "triton", "numpy", "pillow", "pydantic")
    figures.add("cores", len(os.sched_getaffinity(0)), note=", ".join(f"{one} {version_of(one)}" for one in packages))
    figures.add("memory of the card", _card_gb(place), "GB", note=_gpu_line())
    figures.add("shared memory", shutil.disk_usage("/dev/shm").free / 1e9, "GB")
    figures.add("disk, written and flushed", _disk_mb_per_s(setting.scratch), "MB/s")
    side = 256 if is_small else _SIDE
    one, other = (torch.randn(side, side, device=place, dtype=torch.bfloat16) for _ in range(2))
    seconds = _fastest(place, lambda: torch.mm(one, other))
    figures.add("matrix product, bf16", 2 * side**3 / seconds / 1e12, "TFLOP/s", note=f"{side} cubed")
    count = (1 << 20) if is_small else _BYTES
    copied = _copied_per_s(place, count) / 1e12
    figures.add("copy on the device", copied, "TB/s", note="bytes read and written")
    count = (1 << 20) if is_small else _BYTES // 8
    on_cpu = torch.zeros(count, dtype=torch.uint8, pin_memory=place.type == "cuda")
    there = torch.empty(count, dtype=torch.uint8, device=place)
    seconds = _fastest(place, lambda: there.copy_(on_cpu, non_blocking=True))
    figures.add("pinned copy to the device", count / seconds / 1e9, "GB/s")
    small = torch.zeros((), device=place)
    launches = 100 if is_small else _LAUNCHES
    began = time.perf_counter()
    for _ in range(launches):
        small.add_(1)
    synchronize(place)
    figures.add("one launch", (time.perf_counter() - began) / launches * 1e6, "us")


def _copied_per_s(place: torch.device, count: int) -> float:
    source = torch.zeros(count, dtype=torch.uint8, device=place)
    target = torch.empty_like(source)
    return 2 * count / _fastest(place, lambda: target.copy_(source))


def _fastest(place: torch.device, act: Callable[[], object]) -> float:
    """Return the seconds of the fastest of ten calls, after two that are not counted."""
    taken = []
    for _ in range(12):
        synchronize(place)
        began = time.perf_counter()
        act()
        synchronize(place)
        taken.append(time.perf_counter() - began)
    return min(taken[2:])


def _disk_mb_per_s(folder: Path) -> float:
    block, path = os.urandom(1 << 20), folder / "written"
    began = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(_DISK_MB):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    taken = time.perf_counter() - began
    path.unlink()
    return _DISK_MB * (1 << 20) / 1e6 / taken


def _card_gb(place: torch.device) -> float | None:
    return torch.cuda.get_device_properties(place).total_memory / 1e9 if place.type == "cuda" else None


def _gpu_line() -> str:
    wanted = "name,memory.total,driver_version,clocks.max.sm,power.limit"
    query = ["nvidia-smi", f"--query-gpu={wanted}", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as err:
        return f"nvidia-smi: {type(err).__name__}"
    return done.stdout.strip().splitlines()[0]
