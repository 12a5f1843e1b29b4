"""Compute the image sizes of a run: of each epoch, of evaluation, and of test-time augmentation. Pure.

Small images come first, which teach coarse features in less time; larger ones may come last, and in evaluation.
"""

from __future__ import annotations

from cloudrun.recipe.train_config import TrainConfig

# Share of the epochs in which images grow; the rest trains at `image_size`.
_GROWING = 0.75
# Pixels between two sizes: few sizes, since a GPU tunes each; and the strides of all common models divide 32.
_GRAIN = 32
# A number of `tta_sizes` below it is a share of the evaluated size.
SHARES_BELOW = 8


def size_at(epoch: int, config: TrainConfig) -> int:
    """Return the pixels a side of training images in `epoch` (from 1).

    They grow evenly from `start_image_size`, in steps of 32 px. Source: Tan & Le 2021, arXiv:2104.00298, section 4, who
    let the regularisation grow as well. The last epochs may be at `final_image_size`. Source: Touvron et al. 2019,
    arXiv:1906.06423, who train the last layers once more at the size of the test.
    """
    first, last = config.start_image_size, config.image_size
    before_final = config.epochs - final_epochs(config)
    if epoch > before_final and config.final_image_size is not None:
        return config.final_image_size
    growing_epochs = int(before_final * _GROWING)
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


def final_epochs(config: TrainConfig) -> int:
    """Return the epochs at `final_image_size`: at most half of the run, 0 where no such size is set."""
    return 0 if config.final_image_size is None else min(config.final_epochs, config.epochs // 2)


def sizes_of(config: TrainConfig) -> list[int]:
    """Return every size of the training images, in ascending order."""
    return sorted({size_at(epoch, config) for epoch in range(1, config.epochs + 1)})


def largest_size(config: TrainConfig) -> int:
    """Return the largest size of the training images of any run of this config, however few its epochs."""
    return max(config.image_size, config.final_image_size or 0)


def evaluation_size(config: TrainConfig) -> int:
    """Return the pixels a side of images that validate and are predicted; without a size of their own, the last's."""
    return config.test_image_size or config.final_image_size or config.image_size


def view_sizes(config: TrainConfig) -> tuple[int, ...]:
    """Return the pixels a side at which an image is seen when it is predicted; shares become multiples of 32 px."""
    size = evaluation_size(config)
    return tuple(_pixels(wanted, size) for wanted in config.tta_sizes) or (size,)


def _pixels(wanted: float, size: int) -> int:
    if wanted >= SHARES_BELOW:
        return int(wanted)
    return size if wanted == 1 else max(_GRAIN, round(wanted * size / _GRAIN) * _GRAIN)


def sizes_seen(config: TrainConfig) -> list[int]:
    """Return every size that the model may see, in training and in evaluation, in ascending order."""
    return sorted({*sizes_of(config), largest_size(config), evaluation_size(config), *view_sizes(config)})


def work_of_epoch(epoch: int, config: TrainConfig) -> float:
    """Return the pixels of an epoch's images as a share of those at `image_size`."""
    return (size_at(epoch, config) / config.image_size) ** 2


def work_left(*, epoch: int, step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """Return the steps after `step` of `epoch`, counted as steps at `image_size`."""
    whole = sum(work_of_epoch(later, config) for later in range(epoch, config.epochs + 1)) * steps_per_epoch
    return whole - step * work_of_epoch(epoch, config) if epoch <= config.epochs else 0.0


def evaluation_work(config: TrainConfig) -> float:
    """Return the pixels of an image that validates, as a share of those at `image_size`."""
    return (evaluation_size(config) / config.image_size) ** 2
