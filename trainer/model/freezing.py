"""Freeze the backbones while the head learns alone, and thaw them.

Source: Kumar et al. 2022, arXiv:2202.10054: a head that is still random would distort the features of pretrained
backbones in the first steps.
"""

from __future__ import annotations

from trainer.model.ensemble import Ensemble


def freeze_backbones(model: Ensemble, *, is_frozen: bool) -> None:
    """Let the backbones be constants, or learn again; `model` keeps its mode (training or evaluation).

    Frozen, they compute no gradient and keep no activations, in training as in evaluation: batch norm uses its
    statistics and leaves them as they are, and nothing is dropped.
    """
    model.is_frozen = is_frozen
    for parameter in model.backbones.parameters():
        parameter.requires_grad_(not is_frozen)
    model.train(model.training)
