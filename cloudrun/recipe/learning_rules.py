"""Refuse keys of the learning, the losses and the heads that do not fit together. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

from cloudrun.recipe.abilities import can

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
            "`logit_adjustment` and `class_weights: {value}` both favour rare classes",
            {"value": config.class_weights, "hint": "set one of them"},
        )
    if config.logit_adjustment and config.sampler != "shuffle":
        raise PydanticCustomError(
            "rare_drawn_twice",
            "`logit_adjustment` and `sampler: {sampler}` both favour rare classes",
            {"sampler": config.sampler, "hint": "set one of them"},
        )
    if config.soft_labels and (config.loss != "cross_entropy" or config.head == "arcface"):
        key = "head: arcface" if config.head == "arcface" else f"loss: {config.loss}"
        raise PydanticCustomError(
            "soft_robust_loss",
            "`{key}` is not defined for the probabilities of `soft_labels`",
            {"key": key, "hint": "leave `soft_labels` out, or take `loss: cross_entropy` and `head: linear`"},
        )
    if config.logit_adjustment and config.loss == "bce":
        raise PydanticCustomError(
            "adjusted_bce",
            "`logit_adjustment` needs probabilities that sum to 1, which `loss: bce` has not",
            {"hint": "leave `loss` out, or set `logit_adjustment: 0`"},
        )
    if config.head == "arcface":
        _check_arcface(config)
    if config.dropout_samples > 1 and not config.dropout:
        raise PydanticCustomError(
            "no_dropout",
            "`dropout_samples` is {samples} with `dropout: 0`: all draws would be the same",
            {"samples": config.dropout_samples, "hint": "set `dropout: 0.3`, or leave `dropout_samples` out"},
        )
    for name in config.backbones:
        if config.pooling == "gem" and not can(name, "gem"):
            raise PydanticCustomError(
                "no_gem",
                "`pooling: gem` needs feature maps whose mean is taken at the end, which `{name}` has not",
                {"name": name, "hint": "set `pooling: avg`, or take another backbone: a convolutional one, say"},
            )
        if config.grad_checkpointing and not can(name, "checkpointing"):
            raise PydanticCustomError(
                "no_checkpointing",
                "`grad_checkpointing`: timm cannot recompute the activations of `{name}`",
                {"name": name, "hint": "set `grad_checkpointing: false`, or take another backbone"},
            )
    if config.grad_checkpointing and config.compile == "on":
        raise PydanticCustomError(
            "compiled_checkpointing",
            "`compile: on` and `grad_checkpointing` do not go together",
            {"hint": "set `compile: auto`, which compiles nothing then"},
        )


def _check_arcface(config: TrainConfig) -> None:
    for key in ("mixup", "cutmix"):
        if getattr(config, key):
            raise PydanticCustomError(
                "mixed_arcface",
                "`head: arcface` needs one label an image, and `{key}` gives it two",
                {"key": key, "hint": f"set `{key}: 0`"},
            )
    if config.loss != "cross_entropy":
        raise PydanticCustomError(
            "arcface_loss",
            "`head: arcface` is defined for `loss: cross_entropy`, and `loss` is {loss}",
            {"loss": config.loss, "hint": "leave `loss` out, or set `head: linear`"},
        )
