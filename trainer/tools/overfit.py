"""Learn one batch by heart, which a faulty model, loss or set of labels cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from cloudrun.imagedata.dataset import Reading
from cloudrun.recipe.train_config import TrainConfig
from trainer.data.augment import evaluation_transform
from trainer.data.loader import Batch, Loader, Transform
from trainer.session.build import build_setup
from trainer.session.step import train_step

_ENOUGH_LOSS = 0.05
_MOST_IMAGES = 32


def overfit(
    config: TrainConfig, *, data: Path, labels: Path | Reading | None = None, steps: int, say: Callable[[str], None]
) -> bool:
    """Return whether one batch reaches a loss under 0.05 and 100 % accuracy within `steps` steps.

    Without augmentation, dropout, smoothing and decay, at a constant rate. Reasons where it does not: too low or too
    high an `lr`, frozen weights, labels that do not belong to their images.
    """
    plain = config.model_copy(update={"dropout": 0.0, "label_smoothing": 0.0, "weight_decay": 0.0, "workers": 0})
    setup = build_setup(plain, data, labels=labels)
    setup.close()  # one batch needs no cache
    setup.model.train()
    transform = evaluation_transform(plain.image_size, setup.model.inputs)
    batch = _mixed_batch(setup.train_files, transform, size=min(setup.batch_size, _MOST_IMAGES))
    say(f"overfitting {len(batch.labels)} images of {len(set(batch.labels.tolist()))} classes in up to {steps} steps")
    loss, accuracy = float("inf"), 0.0
    for step in range(1, steps + 1):
        result = train_step(setup, batch, say=say)
        loss = float(result.loss_sum.item()) / len(batch.labels)
        accuracy = float(result.correct.item()) / len(batch.labels)
        is_learned = loss < _ENOUGH_LOSS and accuracy == 1.0
        if is_learned or step % 20 == 0 or step == steps:
            say(f"step {step}: loss {loss:.4f}, accuracy {accuracy:.4f}")
        if is_learned:
            say("one batch was learned by heart: model, labels and loss are wired right")
            return True
    say(f"one batch was not learned in {steps} steps: loss {loss:.4f}, accuracy {accuracy:.4f}")
    say(f"hint: try `lr` around 1e-3 (it is {config.lr:g}), more `--steps`, and look at the labels of a few images")
    return False


def _mixed_batch(files: list[tuple[Path, int]], transform: Transform, *, size: int) -> Batch:
    """Return the first images of each class in turn."""
    by_rank = sorted(range(len(files)), key=lambda index: (_rank(files, index), files[index][1]))
    chosen = [files[index] for index in by_rank[:size]]
    loader = Loader(chosen, transform, batch_size=size, seed=None, workers=0)
    batches = list(loader.epoch(0))
    return Batch(torch.cat([batch.images for batch in batches]), torch.cat([batch.labels for batch in batches]))


def _rank(files: list[tuple[Path, int]], index: int) -> int:
    """Return the place of a file within its class; the files of a class are contiguous."""
    first = next(place for place, (_, label) in enumerate(files) if label == files[index][1])
    return index - first
