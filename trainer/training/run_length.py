"""Change the number of epochs of a run between two epochs: to fit its hours, or for lack of patience."""

from __future__ import annotations

from collections.abc import Callable

from cloudrun.recipe.auto_epochs import are_auto
from cloudrun.recipe.train_config import TrainConfig
from trainer.session.state import TrainState
from trainer.training.planning import ended_early, fitted_epochs, most_epochs


def choose_epochs(state: TrainState, *, done: int, say: Callable[[str], None]) -> None:
    """End the run earlier where nothing gets better, or its hours have no room; choose the number of `epochs: auto`."""
    setup, config = state.setup, state.setup.config
    most = most_epochs(config, done=done, chooses=state.chooses_epochs)
    fitting = fitting_into_hours(state, config.model_copy(update={"epochs": most}), done=done)
    epochs = -setup.ranks.decide(-fitting)[0]  # the clocks of processes differ
    if epochs != config.epochs or are_auto(config.epochs):
        hours = f"{config.train_hours:g}" if config.train_hours else "its"
        say(
            f"{epochs} of {state.asked_epochs} epochs fit into {hours} hours (`train_hours`, or the budget): the "
            "learning rate falls to its end in them"
        )
        state.end_after(epochs)
    if done == 1 and state.chooses_epochs:
        state.timing.forget_steps()
    last = ended_early(setup.config, done=done, best_epoch=state.best.epoch)
    if last is not None:
        say(f"ended early: {config.patience} epochs without a better one than epoch {state.best.epoch}")
        if last > done:
            say(f"{last - done} more epoch(s) follow, which are larger, or averaged")
        state.chooses_epochs = False
        state.end_after(last)


def fitting_into_hours(state: TrainState, config: TrainConfig, *, done: int) -> int:
    """Return the epochs of `config` that fit into its hours, by what this run has timed."""
    setup = state.setup
    return fitted_epochs(
        config,
        done=done,
        spent_s=state.spent_s(),
        timing=state.timing,
        val_images=len(setup.val_files),
        images_at_end=setup.images_at_end(),
    )
