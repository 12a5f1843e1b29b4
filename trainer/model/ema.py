"""Average the weights over steps. The average is what validates, is kept as the best model, and predicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Exponential moving average of the parameters of `model` and of its batch norms' statistics.

    Counters are the model's own. The decay warms up, as min(decay, (1 + step) / (10 + step)): with a constant decay,
    the average of a short run would still be mostly its first weights (TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self._model, self._decay, self._steps = model, decay, 0
        # Kept between steps: to walk over the modules takes the host longer than the GPU needs for the update.
        self._names, self._live = _own_tensors(model)
        self._averages = [tensor.detach().clone() for tensor in self._live]

    @property
    def decay(self) -> float:
        """Decay of the next update."""
        return min(self._decay, (1 + self._steps) / (10 + self._steps))

    @torch.no_grad()
    def update(self) -> None:
        """Add the weights of a step. Call after each optimizer step."""
        torch._foreach_lerp_(self._averages, self._live, 1 - self.decay)
        self._steps += 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the model the averaged weights inside the context. Both are swapped, so that nothing is rounded."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def match_memory_formats(self) -> None:
        """Store the averages in the memory formats of the model's tensors: both are swapped.

        Call whenever a tensor of the model was replaced by another one, too.
        """
        names, self._live = _own_tensors(self._model)
        assert names == self._names
        for place, tensor in enumerate(self._live):
            if self._averages[place].stride() != tensor.stride():
                self._averages[place] = torch.empty_like(tensor).copy_(self._averages[place])

    def state_dict(self) -> dict[str, object]:
        return {"steps": self._steps, "average": dict(zip(self._names, self._averages, strict=True))}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        steps, average = state["steps"], state["average"]
        assert isinstance(steps, int)
        assert isinstance(average, Mapping)
        self._steps = steps
        for name, value in zip(self._names, self._averages, strict=True):
            value.copy_(average[name])

    def _exchange(self) -> None:
        _, own = _own_tensors(self._model)
        assert all(one is kept for one, kept in zip(own, self._live, strict=True)), "a tensor of the model was replaced"
        for place, tensor in enumerate(self._live):
            self._averages[place], tensor.data = tensor.data, self._averages[place]


def _own_tensors(model: nn.Module) -> tuple[list[str], list[Tensor]]:
    """Return the names and the values of the floating-point parameters and buffers of `model`."""
    named = [*model.named_parameters(), *model.named_buffers()]
    floating = [(name, tensor) for name, tensor in named if tensor.is_floating_point()]
    return [name for name, _ in floating], [tensor for _, tensor in floating]
