"""Compute the views of test-time augmentation: turned, mirrored and at several sizes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cloudrun.recipe.progressive import evaluation_size, view_sizes
from cloudrun.recipe.train_config import TrainConfig


@dataclass(frozen=True, slots=True)
class View:
    """One way to see an image: at `size` pixels a side, mirrored or not, then turned by so many quarter turns."""

    size: int
    is_mirrored: bool = False
    quarter_turns: int = 0


def views_of(config: TrainConfig) -> tuple[View, ...]:
    """Return the views whose logits are averaged; one view where the config asks for no augmentation.

    Views of one size follow one another.
    """
    turns = range(4) if config.tta == "dihedral" else range(1)
    mirrors = (False,) if config.tta == "none" else (False, True)
    return tuple(
        View(size, is_mirrored, turn) for size in view_sizes(config) for turn in turns for is_mirrored in mirrors
    )


def has_views(config: TrainConfig) -> bool:
    """Return whether images are predicted otherwise than they are validated after each epoch."""
    return views_of(config) != (View(evaluation_size(config)),)


def work_of_views(config: TrainConfig) -> float:
    """Return the pixels of all views of an image, as a share of those of an image that validates after an epoch."""
    return sum((view.size / evaluation_size(config)) ** 2 for view in views_of(config))
