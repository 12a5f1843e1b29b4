"""Compute progressive image sizes: small images first, which teach coarse features in less time. Pure."""

from __future__ import annotations

from cloudrun.recipe.train_config import TrainConfig

# Share of the epochs in which images grow; the last quarter trains at the size that validates.
_GROWING = 0.75
# Pixels between two sizes: few sizes, since a GPU tunes each; and the strides of all common models divide 32.
_GRAIN = 32


def size_at(epoch: int, config: TrainConfig) -> int:
    """Return the pixels a side of training images in `epoch` (from 1).

    They grow evenly from `start_image_size`, in steps of 32 px. Source: Tan & Le 2021, arXiv:2104.00298, section 4, who
    let the regularisation grow as well.
    """
    first, last = config.start_image_size, config.image_size
    growing_epochs = int(config.epochs * _GROWING)
    if first is None or epoch > growing_epochs:
        return last
    size = first + (last - first) * (epoch - 1) / growing_epochs
    return min(last, max(first, first + int((size - first) / _GRAIN + 0.5) * _GRAIN))


def is_plain(epoch: int, config: TrainConfig) -> bool:
    """Return whether `epoch` (from 1) is among the last `plain_epochs` epochs.

    Where a run gets fewer epochs than it was asked for, those are its last ones as of now. Source: Ge et al. 2021,
    arXiv:2107.08430, section 2.1, who end with epochs without mosaic and mixup.
    """
    return epoch > config.epochs - config.plain_epochs


def sizes_of(config: TrainConfig) -> list[int]:
    """Return every size of the run, in ascending order."""
    return sorted({size_at(epoch, config) for epoch in range(1, config.epochs + 1)})


def work_of_epoch(epoch: int, config: TrainConfig) -> float:
    """Return the pixels of an epoch's images as a share of those at full size."""
    return (size_at(epoch, config) / config.image_size) ** 2


def work_left(*, epoch: int, step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Return the steps after `step` of `epoch`, counted as steps at full size."""
    whole = sum(work_of_epoch(later, config) for later in range(epoch, config.epochs + 1)) * steps_per_epoch
    return whole - step * work_of_epoch(epoch, config) if epoch <= config.epochs else 0.0
