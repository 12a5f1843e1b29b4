"""Keep some training images as the model saw them in its first step: augmented, and mixed where the config mixes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from trainer.data.augment import visible
from trainer.data.loader import Batch
from trainer.data.mixing import draw_mix
from trainer.outputs.thumbnails import write_seen
from trainer.session.setup import TrainingSetup
from trainer.session.step import micro_batches, prepare, split

_MOST = 12


def write_seen_images(path: Path, setup: TrainingSetup, batch: Batch, *, images: int) -> None:
    """Write up to 12 images of the next step's first part; changes no random numbers, and nothing of the model.

    `images`: of the whole batch, where this process has a share of it. Without a file where memory or disk is short:
    the run needs none.
    """
    try:
        pictures, labels = seen_images(setup, batch, images=images)
        write_seen(path, pictures, labels)
    except (OSError, RuntimeError):
        return


def seen_images(setup: TrainingSetup, batch: Batch, *, images: int) -> tuple[list[Image.Image], Sequence[str]]:
    """Return up to 12 images of the next step's first part as the model will get them, and their own classes."""
    sizes = micro_batches(len(batch.labels), images, micro_batch=setup.micro_batch, ranks=setup.ranks)
    first = next(split(batch, sizes))
    # Of the first and the last ones, which are each other's partners in a mix.
    half = min(_MOST, len(first.labels)) // 2
    places = [*range(half), *range(len(first.labels) - half, len(first.labels))] or [0]
    drawn = None if first.augment_params is None else first.augment_params[places]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        mix = None if setup.is_plain else draw_mix(setup.config, size=setup.train_size)
        inputs = prepare(Batch(first.images[places], first.labels[places], drawn), setup.device.torch_device,
                         size=setup.train_size)  # fmt: skip
        if mix is not None:
            inputs = mix.images(inputs)
    pictures = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in visible(inputs)]
    classes, dataset = setup.dataset.classes, setup.dataset
    names = [" + ".join(classes[at] for at in dataset.classes_of(label)) for label in first.labels[places].tolist()]
    return pictures, names
