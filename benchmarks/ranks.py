"""Time how two processes' gradients are summed: by trainer/distributed/gradients.py, and by torch's own class.

python -m benchmarks.ranks    (two cores, Gloo over the loopback; 2 minutes)

Each process does the same steps in three ways, in turn; the figure is the median over the rounds of each way's time
against that of torch's DistributedDataParallel in the same round.
"""

from __future__ import annotations

import copy
import os
import socket
import statistics
import time
from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.machine import heading
from trainer.distributed.gradients import GradientSync
from trainer.distributed.ranks import Ranks
from trainer.distributed.stop import StopFlag

_BACKBONE, _PIXELS, _IMAGES, _STEPS, _ROUNDS = "resnet50", 64, 4, 4, 9
Step = Callable[[Tensor, Tensor], None]


def main() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    print(f"{heading()}; {_BACKBONE}, {_IMAGES} images of {_PIXELS} px in each of two processes, Gloo")
    spawn(_work, args=(port,), nprocs=2)  # type: ignore[no-untyped-call]


def _work(rank: int, port: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    ranks = Ranks(rank, 2, rank, 2)
    ranks.join(torch.device("cpu"), StopFlag(ranks))
    torch.manual_seed(0)
    model = timm.create_model(_BACKBONE, num_classes=8)
    ways = {
        "torch's DistributedDataParallel": _by_ddp(copy.deepcopy(model)),
        "trainer/distributed/gradients.py": _by_buckets(copy.deepcopy(model), ranks, early=True),
        "the same, sent after the backward pass": _by_buckets(copy.deepcopy(model), ranks, early=False),
    }
    torch.manual_seed(rank)
    images, labels = torch.rand(_IMAGES, 3, _PIXELS, _PIXELS), torch.randint(8, (_IMAGES,))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_ROUNDS + 1):
        for name, step in ways.items():
            ranks.decide(0)
            began = time.perf_counter()
            for _ in range(_STEPS):
                step(images, labels)
            seconds[name].append((time.perf_counter() - began) / _STEPS)
    if ranks.is_main:
        peer = seconds["torch's DistributedDataParallel"][1:]
        print("| way | ms a step, median | of DistributedDataParallel's time, median (lowest to highest) |")
        print("| --- | --- | --- |")
        for name, took in seconds.items():
            ratios = [mine / theirs for mine, theirs in zip(took[1:], peer, strict=True)]
            middle = statistics.median(took[1:]) * 1000
            print(
                f"| {name} | {middle:.0f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
            )
    ranks.leave()


def _by_ddp(model: nn.Module) -> Step:
    shared = DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad(set_to_none=False)
        nn.functional.cross_entropy(shared(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _by_buckets(model: nn.Module, ranks: Ranks, *, early: bool) -> Step:
    gradients = GradientSync(model, ranks)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step(images: Tensor, labels: Tensor) -> None:
        gradients.zero()
        loss = nn.functional.cross_entropy(model(images), labels)
        if early:
            gradients.arm()
        (loss / 2).backward()  # type: ignore[no-untyped-call]
        gradients.finish(loss)
        ranks.decide(0)
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
