"""Decide how many epochs a run has: fitted to its hours, or ended where nothing gets better. Pure."""

from __future__ import annotations

from cloudrun.recipe.auto_epochs import MOST_EPOCHS, are_auto
from cloudrun.recipe.progressive import final_epochs, work_left
from cloudrun.recipe.train_config import TrainConfig
from trainer.errors import ConfigError
from trainer.outputs.timing import Timing

# Of the hours that are left, for saving, and for what varies.
_RESERVE = 0.03
_SHORTEST_H = 1e-6
# Epochs after which the time of an epoch is known well.
_SURE_AFTER = 3


def fitted_epochs(  # noqa: PLR0913 - all that the estimate is made from
    config: TrainConfig, *, done: int, spent_s: float, timing: Timing, val_images: int, images_at_end: float
) -> int:
    """Return the most epochs, at most `config.epochs` and at least `done`, that fit into `train_hours`.

    `done`: epochs that are trained and validated; `spent_s`: seconds of the run so far. The rest is expected to take as
    long as the steps and evaluations that were timed; `images_at_end`: evaluated after the last epoch.
    """
    if config.train_hours is None:
        return config.epochs
    room_s = (config.train_hours * 3600 - spent_s) * (1 - _RESERVE)
    for epochs in range(config.epochs, done, -1):
        shorter = config.model_copy(update={"epochs": epochs})
        steps = work_left(epoch=done + 1, step=0, steps_per_epoch=timing.steps_per_epoch, config=shorter)
        if timing.seconds(steps=steps, images=(epochs - done) * val_images + images_at_end) <= room_s:
            return epochs
    return done


def hours_of(config: TrainConfig, *, hours_left: float | None, spent_s: float) -> float | None:
    """Return the hours that a run may take in all; None: as many as its epochs take.

    `hours_left`: of the job's budget, from now on, which `epochs: auto` is fitted to; `spent_s`: seconds of the run so
    far. Raises ConfigError where `epochs: auto` has nothing to be fitted to.
    """
    if not are_auto(config.epochs):
        return config.train_hours
    hours = [] if hours_left is None else [spent_s / 3600 + hours_left]
    hours += [] if config.train_hours is None else [config.train_hours]
    if not hours:
        raise ConfigError(
            "`epochs: auto` has no hours to fit epochs into", hint="set `train_hours`, or a number of `epochs`"
        )
    return max(min(hours), _SHORTEST_H)


def most_epochs(config: TrainConfig, *, done: int, chooses: bool) -> int:
    """Return the epochs that a run may have at most, after `done` of `config.epochs`.

    `chooses`: of `epochs: auto`, which may also grow in the first quarter of the run, and in the first three epochs:
    the first decodes all images, and later the learning rate has begun to fall.
    """
    may_grow = chooses and (done <= _SURE_AFTER or done * 4 <= config.epochs)
    return MOST_EPOCHS if may_grow else int(config.epochs)


def ended_early(config: TrainConfig, *, done: int, best_epoch: int) -> int | None:
    """Return the epoch after which a run ends that was without a better epoch for `patience` epochs; None: it goes on.

    The epochs that only the end of a run has, larger ones and those that are averaged, still come.
    """
    if not config.patience or done - best_epoch < config.patience:
        return None
    last = done + max(final_epochs(config), config.swa_epochs)
    return last if last < config.epochs else None
