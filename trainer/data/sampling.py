"""Draw the images of an epoch by class, so that rare classes are seen more often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from cloudrun.imagedata.folders import Dataset, LabelledFile
from cloudrun.recipe.train_config import TrainConfig


def sampling_weights(files: Sequence[LabelledFile], dataset: Dataset, config: TrainConfig) -> list[float] | None:
    """Return how likely each of `files` is drawn, in relation to the others; None: each comes once an epoch.

    With `balanced` all classes have the same sum, with `sqrt` the root of their number of images. An image of several
    classes counts for its rarest one; images without a class are a class of their own.
    """
    if config.sampler == "shuffle":
        return None
    counts = dataset.count_classes(files)
    rarest = [
        min(dataset.classes_of(label), key=lambda index: (counts[index], index), default=-1) for _, label in files
    ]
    sizes = Counter(rarest)
    power = 1.0 if config.sampler == "balanced" else 0.5
    return [sizes[index] ** -power for index in rarest]


def drawn_again(weights: Sequence[float], count: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """Return `count` indices, drawn with replacement by `weights`, each with how often it was drawn before.

    torch.multinomial would do the same for up to 2**24 weights.
    """
    edges = torch.tensor(weights, dtype=torch.float64).cumsum(0)
    at = torch.rand(count, generator=generator, dtype=torch.float64) * edges[-1]
    drawn = torch.searchsorted(edges, at, right=True).clamp_(max=len(weights) - 1).tolist()
    before: Counter[int] = Counter()
    order = []
    for index in drawn:
        order.append((index, before[index]))
        before[index] += 1
    return order
