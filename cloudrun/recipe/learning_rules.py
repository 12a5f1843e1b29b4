"""Refuse keys of the learning, the losses and the heads that do not fit together. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from cloudrun.recipe.train_config import TrainConfig


def check_learning(config: TrainConfig) -> None:
    """Raise PydanticCustomError, with a hint, for the first combination that cannot be trained."""
    if config.frozen_epochs and config.frozen_epochs >= config.epochs:
        raise PydanticCustomError(
            "all_frozen",
            "`frozen_epochs` is {frozen} of {epochs} epochs: the backbones would never learn",
            {
                "frozen": config.frozen_epochs,
                "epochs": config.epochs,
                "hint": "lower `frozen_epochs`, or raise `epochs`",
            },
        )
