"""Average the logits of several views of an image: turned, mirrored and at several sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional

from cloudrun.recipe.views import View


def mean_logits(views: Sequence[View], images_BCHW: Tensor, logits_of: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean over `views` of the logits (B, classes) of `images_BCHW`, which have the size of the largest.

    Logits and not probabilities are averaged: temperature and thresholds are fitted to logits, and one view that is
    sure of itself cannot hide the others behind rounding. Views come one after another, in the memory of one.
    """
    total: Tensor | None = None
    for size, group in groupby(views, key=lambda view: view.size):
        sized = resized(images_BCHW, size)
        for view in group:
            logits = logits_of(seen(sized, view))
            total = logits if total is None else total + logits
    assert total is not None
    return total / len(views)


def seen(images_BCHW: Tensor, view: View) -> Tensor:
    """Return images of the view's size as the view shows them: mirrored, then turned counter-clockwise."""
    images = images_BCHW.flip(3) if view.is_mirrored else images_BCHW
    return torch.rot90(images, view.quarter_turns, (2, 3)) if view.quarter_turns else images


def resized(images_BCHW: Tensor, size: int) -> Tensor:
    """Return square images of `size` pixels a side; smoothed where they shrink, as when a file is resized."""
    if images_BCHW.shape[-1] == size:
        return images_BCHW
    return functional.interpolate(images_BCHW, size=(size, size), mode="bilinear", antialias=True)


def loaded_size(views: Sequence[View], *, otherwise: int) -> int:
    """Return the pixels a side of images to load: those of the largest view; `otherwise` without views."""
    return max((view.size for view in views), default=otherwise)
