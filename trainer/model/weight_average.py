"""Average the weights of several epochs, each with the same share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class WeightAverage:
    """The mean of `model.state_dict()` after each of `epochs`; integers, which count batches, are of the last.

    Source: Izmailov et al. 2018, arXiv:1803.05407, section 3.2. `weights` is None in processes that keep none.
    """

    epochs: tuple[int, ...] = ()
    weights: dict[str, Tensor] | None = None

    @torch.no_grad()
    def plus(self, epoch: int, weights: Weights | None) -> WeightAverage:
        """Return the average with one epoch more."""
        epochs = (*self.epochs, epoch)
        if weights is None:
            return WeightAverage(epochs)
        if self.weights is None:
            return WeightAverage(epochs, {name: value.clone() for name, value in weights.items()})
        share = 1 / len(epochs)
        together = {
            name: mean.lerp(weights[name], share) if mean.is_floating_point() else weights[name].clone()
            for name, mean in self.weights.items()
        }
        return WeightAverage(epochs, together)

    def as_plain(self) -> dict[str, Any]:
        return {"epochs": list(self.epochs), "weights": self.weights}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], *, keeps_weights: bool) -> WeightAverage:
        epochs: Sequence[int] = plain["epochs"]
        return cls(tuple(epochs), plain["weights"] if keeps_weights else None)
