"""Compare the trainer's data path with the usual data path: speed of the loader, scaled decode, accuracy.

The usual data path, here "reference": PIL, torchvision's RandomResizedCrop, flip, rotation, ColorJitter, ToTensor and
Normalize in a DataLoader.

python -m benchmarks.trainer [loader] [decode] [accuracy]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean, median, stdev

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.machine import CHECKOUT, heading
from cloudrun.imagedata.folders import LabelledFile, list_images
from cloudrun.recipe.inputs import IMAGENET_MEAN, IMAGENET_STD
from cloudrun.recipe.train_config import TrainConfig
from trainer.data.augment import Square, ranges_of, square_side
from trainer.data.cache import PixelCache
from trainer.data.loader import Batch, Loader, mix
from trainer.model.optim import lr_at, set_lr
from trainer.session.build import build_setup
from trainer.session.device import tune_for_cpu
from trainer.session.scores import evaluate
from trainer.session.setup import TrainingSetup
from trainer.session.step import prepare, train_step

ROUNDS = 5
BATCH = 32
SEEDS = range(5)
LARGE = (2048, 1365)
ACCURACY = {
    "backbones": ["mobilenetv3_small_050"], "pretrained": False, "image_size": 128, "epochs": 8, "batch_size": 32,
    "lr": 2e-3, "dropout": 0.2, "warmup_epochs": 1, "crop_scale_min": 0.3, "device": "cpu", "workers": 0,
}  # fmt: skip


def random_transforms(config: TrainConfig) -> list[v2.Transform]:
    jitter = config.color_jitter
    return [
        v2.RandomResizedCrop(config.image_size, scale=(config.crop_scale_min, 1.0)),
        v2.RandomHorizontalFlip(),
        v2.RandomRotation(config.rotation_degrees, interpolation=v2.InterpolationMode.BILINEAR),
        v2.ColorJitter(brightness=jitter, contrast=jitter, saturation=jitter),
        v2.PILToTensor(),
    ]


class Reference(Dataset[tuple[Tensor, int]]):
    """Reads files as most training scripts do."""

    def __init__(self, files: list[LabelledFile], config: TrainConfig) -> None:
        to_float = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
        self._files, self._transform = files, v2.Compose([*random_transforms(config), *to_float])

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self._files[index]
        pixels: Tensor = self._transform(Image.open(path).convert("RGB"))
        return pixels, label


def images_per_s(act: Callable[[], int]) -> tuple[float, float]:
    """Return images per CPU-second of this process, and images per second; `act` returns how many images it took."""
    cpu, wall = time.process_time(), time.perf_counter()
    images = act()
    return images / (time.process_time() - cpu), images / (time.perf_counter() - wall)


def in_turn(files: list[LabelledFile], config: TrainConfig) -> Iterator[dict[str, tuple[float, float]]]:
    """Time, `ROUNDS` times, the reference and this trainer's first and third epoch, whose cache is empty at first."""
    paths, side, cpu = [path for path, _ in files], square_side(config), torch.device("cpu")
    reference = DataLoader(Reference(files, config), BATCH, shuffle=True)
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            cache = PixelCache(Path(folder), paths, recipe="square", side=side, limit_bytes=10**11)
            loader = Loader(
                files, Square(side), batch_size=BATCH, seed=0, workers=0, at_least=side, ranges=ranges_of(config),
                cache=cache,
            )  # fmt: skip

            def epoch(number: int, loader: Loader = loader) -> int:
                return sum(len(prepare(one, cpu, size=config.image_size)) for one in loader.epoch(number))

            figures = {"reference": images_per_s(lambda: sum(len(images) for images, _ in reference))}
            figures["first epoch"] = images_per_s(lambda: epoch(1))
            epoch(2)  # checks each image once
            figures["later epochs"] = images_per_s(lambda: epoch(3))
            yield figures


def report_speed(name: str, files: list[LabelledFile]) -> None:
    torch.set_num_threads(1)
    rounds = list(in_turn(files, TrainConfig()))
    print(f"\n{name}: {len(files)} images at 224 px, one process, one thread; median of {ROUNDS}, in turn")
    print(
        "| what | images per CPU-second | images per second | of the reference's, by CPU |\n| --- | --- | --- | --- |"
    )
    for what in rounds[0]:
        by_cpu, by_wall = (median(one[what][which] for one in rounds) for which in (0, 1))
        ratio = median(one[what][0] / one["reference"][0] for one in rounds)
        print(f"| {what} | {by_cpu:.0f} | {by_wall:.0f} | {ratio:.2f} |", flush=True)


def loader(shared: Path) -> None:
    report_speed("photos, as they are", [(path, 0) for path in list_images(shared / "data" / "photos")])


def decode(shared: Path) -> None:
    """Report the speed on enlarged photographs: the content is not a large camera's, but the work of decoding is."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for place, path in enumerate(list_images(shared / "data" / "photos")[:64]):
            large = Path(folder, f"{place}.jpg")
            Image.open(path).convert("RGB").resize(LARGE, Image.Resampling.BICUBIC).save(large, quality=90)
            files.append((large, 0))
        report_speed(f"photos, enlarged to {LARGE[0]}x{LARGE[1]}", files)


def accuracy(shared: Path) -> None:
    """Print test accuracies by seed, for the same steps on images of the reference and on squares of two sizes."""
    data = shared / "data" / "plantvillage-potato"
    torch.set_num_threads(1)
    print(f"\n{data.name}, {ACCURACY['backbones']}, {ACCURACY['image_size']} px, {ACCURACY['epochs']} epochs")
    print("| images | test accuracy by seed | mean | standard error |\n| --- | --- | --- | --- |")
    ways = {"reference": {}, "squares, auto": {}, "squares of 256": {"decoded_size": 256}}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for seed in SEEDS:
        for name, changes in ways.items():
            config = TrainConfig.model_validate({**ACCURACY, "seed": seed, **changes})
            found[name].append(test_accuracy(config, data, is_reference=name == "reference"))
    for name, scores in found.items():
        error = stdev(scores) / len(scores) ** 0.5
        print(f"| {name} | {', '.join(f'{one:.3f}' for one in scores)} | {fmean(scores):.4f} | {error:.4f} |")


def test_accuracy(config: TrainConfig, data: Path, *, is_reference: bool) -> float:
    """Train, and return the test accuracy of the weights after the last epoch."""
    setup = build_setup(config, data)
    train_loader = setup.train_loader
    if is_reference:
        # Transforms draw from torch's global generator, in this process.
        transform = v2.Compose(random_transforms(config))
        train_loader = Loader(setup.train_files, transform, batch_size=setup.batch_size, seed=config.seed, workers=0)
    setup.model.train()
    step = 0
    for epoch in range(1, config.epochs + 1):
        for batch in train_loader.epoch(epoch):
            take_step(setup, batch, step)
            step += 1
    setup.close()
    files = list(setup.dataset.splits["test"])
    return evaluate(setup.model, setup.evaluation_loader(files), setup.device).rate().accuracy


def take_step(setup: TrainingSetup, batch: Batch, step: int) -> None:
    set_lr(setup.optimizer, lr_at(step, setup.schedule))
    torch.manual_seed(mix(setup.config.seed, step))
    train_step(setup, batch, say=print)


PARTS: dict[str, Callable[[Path], None]] = {"loader": loader, "decode": decode, "accuracy": accuracy}

if __name__ == "__main__":
    beside = Path(os.environ.get("CLOUDRUN_SHARED", CHECKOUT.parent / "shared"))
    tune_for_cpu()
    print(heading())
    for part in sys.argv[1:] or PARTS:
        PARTS[part](beside)
