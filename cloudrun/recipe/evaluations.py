"""Count the images that a run evaluates after its last epoch. Pure."""

from __future__ import annotations

from cloudrun.recipe.progressive import evaluation_size, size_at
from cloudrun.recipe.train_config import TrainConfig
from cloudrun.recipe.views import has_views, work_of_views

# Training images that give batch norms the statistics of averaged weights.
REFRESH_IMAGES = 12_800


def predicts_val_again(config: TrainConfig) -> bool:
    """Return whether the images that validate are predicted once more at the end: out of fold, or with all views."""
    return bool(config.folds) or has_views(config)


def refreshed_images(train_images: int) -> int:
    """Return the training images that measure batch norm's statistics for averaged weights."""
    return min(train_images, REFRESH_IMAGES)


def evaluated_at_the_end(config: TrainConfig, *, train_images: int, val_images: int, test_images: int) -> float:
    """Return the images that are evaluated after the last epoch of one model.

    They are counted as images that validate after an epoch: each view by its pixels. Each average of weights that is
    tried validates once, and sees training images for the statistics of batch norm.
    """
    predicted = test_images + (val_images if predicts_val_again(config) else 0)
    tried = (config.swa_epochs > 0) + max(0, min(config.soup, config.epochs) - 1)
    refresh_pixels = (size_at(config.epochs, config) / evaluation_size(config)) ** 2
    each = val_images + refreshed_images(train_images) * refresh_pixels
    return predicted * work_of_views(config) + tried * each
