"""The champion's recipe on a GPU: the whole trainer, its own ceiling, the naive loop and timm's train.py, in turn.

The ceiling is the same step on one batch that lies on the GPU, again and again. The naive loop is how such recipes are
usually published: PIL transforms in a DataLoader with 8 workers, fp16 with a GradScaler, eager, NCHW. timm's train.py
is not in its package: with the path of one, each backbone is trained by it with its best flags, and the two speeds are
added up as two networks that see each image are.

python -m benchmarks.gpu [--timm TRAIN_PY] [--rehearse]     --rehearse: a tiny network on this CPU, to see that it runs
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch
from torch.utils.data import DataLoader

from benchmarks.machine import CHECKOUT, heading
from benchmarks.trainer import ROUNDS, Reference, take_step
from trainer.config import TrainConfig
from trainer.gmacs import work_of
from trainer.loader import Batch
from trainer.model import build_model
from trainer.opening import open_session
from trainer.session import Session
from trainer.stop import StopFlag
from trainer.tuning import tune

REHEARSAL = {
    "backbones": ["test_resnet", "test_efficientnet"], "image_size": 32, "batch_size": 64, "device": "cpu",
    "workers": 1,
}  # fmt: skip
TIMM_EPOCHS = 4  # the first one compiles
_TIMM_AVERAGE = re.compile(r"Train: (\d+) \[.*\([\d.]+s, +([\d.]+)/s\)")
_SQUARE = 8192  # of the matrices whose product shows what the card can do


def main(shared: Path, *, rehearses: bool, timm_script: Path | None) -> None:
    """Prints a table; nothing where there is no GPU."""
    if not rehearses and not torch.cuda.is_available():
        print("\nthe trainer on a GPU: not measured, there is none here")
        return
    config = TrainConfig.model_validate({"pretrained": False, **(REHEARSAL if rehearses else {"device": "cuda"})})
    data = shared / "data" / "plant-seedlings"
    session = open_session(config, data)
    tune(session, stop=StopFlag(), say=print)
    print(f"\n{session.device.describe()}, batch {session.batch_size}, {session.workers} workers; median of {ROUNDS}")
    print(f"a product of bf16 matrices: {_matrix_tflops(session.device.torch_device):.0f} TFLOP/s\n")
    report(session, *in_turn(session))
    session.close()
    if timm_script is not None:
        with_timm(timm_script, data, config, batch_size=session.batch_size)


def in_turn(session: Session) -> tuple[dict[str, list[float]], list[float], float]:
    """Images per second of each way, `ROUNDS` times; the GPU's use in percent under the whole trainer; peak memory."""
    session.model.train()
    batch = None
    for batch in session.train_loader.epoch(1):  # fills the cache
        take_step(session, batch, 0)
    assert batch is not None
    place = session.device.torch_device
    speeds: dict[str, list[float]] = {"ceiling": [], "whole trainer": [], "naive loop": []}
    busy: list[float] = []
    _forget_peak(place)
    _whole_epoch(session, 2)  # checks each image of the cache once
    peak = _peak_gb(place)
    naive = NaiveLoop(session)
    for number in range(3, 3 + ROUNDS):
        speeds["ceiling"].append(_speed(place, lambda: _same_batch(session, batch)))
        with _use_of(place, busy):
            speeds["whole trainer"].append(_speed(place, lambda: _whole_epoch(session, number)))  # noqa: B023
        speeds["naive loop"].append(_speed(place, naive.epoch))
    return speeds, busy, peak


def report(session: Session, speeds: dict[str, list[float]], busy: list[float], peak_gb: float) -> None:
    work = [work_of(name, session.config.image_size) for name in session.config.backbones]
    flops = sum(one.gmacs for one in work if one is not None) * 1e9 * 2 * 3  # backward is twice the forward pass
    print("| what | images per second | lowest, highest | of the ceiling | TFLOP/s |\n| --- | --- | --- | --- | --- |")
    for what, measured in speeds.items():
        parts = [one / ceiling for one, ceiling in zip(measured, speeds["ceiling"], strict=True)]
        span = f"{min(measured):.0f}, {max(measured):.0f}"
        per_s = median(measured)
        print(f"| {what} | {per_s:.0f} | {span} | {median(parts):.3f} | {per_s * flops / 1e12:.1f} |")
    ratio = median(ours / naive for ours, naive in zip(speeds["whole trainer"], speeds["naive loop"], strict=True))
    print(f"\nthe whole trainer against the naive loop: {ratio:.2f} times")
    if busy:
        print(
            f"the GPU under the whole trainer: busy {median(busy):.0f} % of the time, the naive loop's model beside it"
        )
    print(f"peak memory of the whole trainer: {peak_gb:.1f} GB", flush=True)


class NaiveLoop:
    """As the recipe is usually published."""

    def __init__(self, session: Session) -> None:
        self._place = session.device.torch_device
        config, classes = session.config, len(session.dataset.classes)
        self._model = build_model(config, classes=classes).to(self._place)
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=1e-4)
        self._scaler = torch.amp.GradScaler(self._place.type, enabled=session.device.is_cuda)
        self._dtype = torch.float16 if session.device.is_cuda else torch.bfloat16
        self._batches = DataLoader(
            Reference(session.train_files, config), session.batch_size, shuffle=True, num_workers=8, drop_last=True,
            pin_memory=session.device.is_cuda,
        )  # fmt: skip

    def epoch(self) -> int:
        """How many images it took."""
        count = 0
        for images, labels in self._batches:
            self._optimizer.zero_grad()
            with torch.autocast(self._place.type, dtype=self._dtype):
                logits = self._model(images.to(self._place))
                loss = torch.nn.functional.cross_entropy(logits, labels.to(self._place), label_smoothing=0.1)
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self._scaler.step(self._optimizer)
            self._scaler.update()
            count += len(labels)
        return count


def with_timm(script: Path, data: Path, config: TrainConfig, *, batch_size: int) -> None:
    """Images per second of timm's train.py by its own log: of each epoch after the first, the average."""
    medians = []
    for backbone in config.backbones:
        epochs = _timm_epochs(script, data, config, backbone, batch_size)
        print(f"timm's train.py, {backbone}: {', '.join(f'{one:.0f}' for one in epochs)} images/s", flush=True)
        medians.append(median(epochs))
    print(f"timm's train.py, both, one after the other: {1 / sum(1 / one for one in medians):.0f} images/s")


def _timm_epochs(script: Path, data: Path, config: TrainConfig, backbone: str, batch_size: int) -> list[float]:
    size, classes = str(config.image_size), sum(1 for one in (data / "train").iterdir() if one.is_dir())
    with tempfile.TemporaryDirectory() as out:
        command = [
            sys.executable, str(script), str(data), "--train-split", "train", "--val-split", "val",
            "--model", backbone, "--num-classes", str(classes), "--input-size", "3", size, size,
            "--batch-size", str(batch_size), "--epochs", str(TIMM_EPOCHS), "--warmup-epochs", "0",
            "--cooldown-epochs", "0", "--opt", "adamw", "--lr", "1e-4", "--smoothing", "0.1", "--workers", "8",
            "--pin-mem", "--log-interval", "10", "--output", out,
        ]  # fmt: skip
        if config.device == "cuda":
            command += ["--amp", "--channels-last", "--torchcompile"]
        else:
            command += ["--device", "cpu", "--no-prefetcher"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    averages = {int(epoch): float(speed) for epoch, speed in _TIMM_AVERAGE.findall(done.stdout + done.stderr)}
    if done.returncode != 0 or len(averages) < TIMM_EPOCHS:
        raise SystemExit(f"timm's train.py ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return [averages[epoch] for epoch in range(1, TIMM_EPOCHS)]


def _speed(place: torch.device, act: Callable[[], int]) -> float:
    _synchronize(place)
    began = time.perf_counter()
    images = act()
    _synchronize(place)
    return images / (time.perf_counter() - began)


def _same_batch(session: Session, batch: Batch) -> int:
    place = session.device.torch_device
    assert batch.draws is not None
    there = Batch(batch.images.to(place), batch.labels.to(place), batch.draws.to(place))
    for _ in range(session.steps_per_epoch):
        take_step(session, there, 0)
    return session.steps_per_epoch * len(batch.labels)


def _whole_epoch(session: Session, number: int) -> int:
    count = 0
    for batch in session.train_loader.epoch(number):
        take_step(session, batch, 0)
        count += len(batch.labels)
    return count


def _matrix_tflops(place: torch.device) -> float:
    """What the card does at its best: the fastest of ten products."""
    side = _SQUARE if place.type == "cuda" else 512
    one, other = (torch.randn(side, side, device=place, dtype=torch.bfloat16) for _ in range(2))

    def product() -> int:
        torch.mm(one, other)
        return 1

    return max(_speed(place, product) for _ in range(10)) * 2 * side**3 / 1e12


@contextmanager
def _use_of(place: torch.device, found: list[float]) -> Iterator[None]:
    """Add the median of what nvidia-smi says five times a second: percent of the time that a kernel runs."""
    if place.type != "cuda":
        yield
        return
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", "0", "-lms", "200"]
    with subprocess.Popen(query, stdout=subprocess.PIPE, text=True) as watch:
        yield
        watch.terminate()
        said = watch.communicate()[0].split()
    percents = [float(one) for one in said if one.isdigit()]
    if percents:
        found.append(median(percents))


def _synchronize(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.synchronize(place)


def _forget_peak(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)


def _peak_gb(place: torch.device) -> float:
    return torch.cuda.max_memory_allocated(place) / 1e9 if place.type == "cuda" else 0.0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--timm", type=Path, help="timm's train.py, of its repository")
    parser.add_argument("--rehearse", action="store_true", help="a tiny network on this CPU")
    words = parser.parse_args()
    if words.timm is not None and not words.timm.is_file():
        parser.error(f"there is no {words.timm}")  # not after minutes of the GPU
    print(heading())
    main(
        Path(os.environ.get("CLOUDRUN_SHARED", CHECKOUT.parent / "shared")).resolve(),
        rehearses=words.rehearse,
        timm_script=words.timm,
    )
