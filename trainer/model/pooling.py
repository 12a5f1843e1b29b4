"""Pool feature maps by their generalised mean, with an exponent that is learned, in place of their mean."""

from __future__ import annotations

import torch
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from torch import Tensor, nn

from trainer.errors import TrainerError

_FIRST_P = 3.0
_SMALLEST = 1e-6
# At 1 it is the mean. Beyond 6, the power of the smallest value is 0 in float32, and its root has no slope.
_RANGE_OF_P = (1.0, 6.0)


class GeM(nn.Module):
    """Generalised mean (mean of x ** p) ** (1 / p) over `dims`, in float32. Source: arXiv:1711.02512, eq. 8."""

    def __init__(self, *, dims: tuple[int, ...] = (2, 3), keeps_dims: bool = False) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), _FIRST_P))
        self._dims, self._keeps_dims = dims, keeps_dims

    def forward(self, maps: Tensor) -> Tensor:
        """Return pooled float32 maps; values below 1e-6 count as 1e-6."""
        with torch.autocast(maps.device.type, enabled=False):
            p = self.p.float().clamp(*_RANGE_OF_P)
            powers = maps.float().clamp(min=_SMALLEST) ** p
            pooled: Tensor = powers.mean(self._dims, keepdim=self._keeps_dims) ** (1 / p)
        return pooled


def use_gem(backbone: nn.Module, *, name: str) -> None:
    """Replace the pooling of a timm model. Raises TrainerError where it does not pool maps by their mean."""
    pools = [one for one in backbone.modules() if isinstance(one, SelectAdaptivePool2d)]
    if len(pools) != 1 or pools[0].pool_type not in ("avg", "fast", "fastavg"):
        raise NoGem(name)
    mean = pools[0].pool
    keeps = not getattr(mean, "flatten", False)
    pools[0].pool = GeM(dims=tuple(getattr(mean, "dim", (2, 3))), keeps_dims=keeps)


def check_is_used(backbone: nn.Module, *, name: str, image_size: int) -> None:
    """Raise TrainerError where no output depends on the exponent: the pooling was that of an unused head."""
    pool = next(one for one in backbone.modules() if isinstance(one, GeM))
    seen: list[int] = []
    handle = pool.register_forward_pre_hook(lambda _, maps: seen.append(maps[0].ndim))
    was_training = backbone.training
    try:
        with torch.no_grad():
            backbone.eval()(torch.zeros(1, 3, image_size, image_size))
    finally:
        handle.remove()
        backbone.train(was_training)
    if seen != [4]:
        raise NoGem(name)


class NoGem(TrainerError):
    """A backbone without maps of features that are pooled at the end."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"`{name}` does not end in maps of features whose mean is taken, so that `pooling: gem` cannot replace it",
            hint="set `pooling: avg`, or choose another backbone: a convolutional one, say",
        )
