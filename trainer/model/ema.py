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
        self._average = {key: value.detach().clone() for key, value in self._live().items()}

    @property
    def decay(self) -> float:
        """Decay of the next update."""
        return min(self._decay, (1 + self._steps) / (10 + self._steps))

    @torch.no_grad()
    def update(self) -> None:
        """Add the weights of a step. Call after each optimizer step."""
        live, weight = self._live(), 1 - self.decay
        torch._foreach_lerp_(list(self._average.values()), [live[key] for key in self._average], weight)
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
        """Store the averages in the memory formats of the model's tensors: both are swapped."""
        for key, tensor in self._live().items():
            if self._average[key].stride() != tensor.stride():
                self._average[key] = torch.empty_like(tensor).copy_(self._average[key])

    def state_dict(self) -> dict[str, object]:
        return {"steps": self._steps, "average": self._average}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        steps, average = state["steps"], state["average"]
        assert isinstance(steps, int)
        assert isinstance(average, Mapping)
        self._steps = steps
        for key, value in self._average.items():
            value.copy_(average[key])

    def _live(self) -> dict[str, Tensor]:
        """Return the model's own floating-point tensors."""
        tensors = [*self._model.named_parameters(), *self._model.named_buffers()]
        return {name: tensor for name, tensor in tensors if tensor.is_floating_point()}

    def _exchange(self) -> None:
        for key, tensor in self._live().items():
            self._average[key], tensor.data = tensor.data, self._average[key]
