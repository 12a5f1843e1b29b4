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
    if config.loss != "cross_entropy" and config.focal_gamma:
        raise PydanticCustomError(
            "focal_loss",
            "`focal_gamma` is for `loss: cross_entropy`, and `loss` is {loss}",
            {"loss": config.loss, "hint": "set `focal_gamma: 0`, or leave `loss` out"},
        )
    if config.logit_adjustment and config.class_weights != "none":
        raise PydanticCustomError(
            "rare_twice",
            "`logit_adjustment` and `class_weights: {weights}` both favour rare classes",
            {"weights": config.class_weights, "hint": "set one of them"},
        )
    if config.logit_adjustment and config.loss == "bce":
        raise PydanticCustomError(
            "adjusted_bce",
            "`logit_adjustment` needs probabilities that sum to 1, which `loss: bce` has not",
            {"hint": "leave `loss` out, or set `logit_adjustment: 0`"},
        )
