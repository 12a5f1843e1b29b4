"""Look up which image sizes each of timm's models takes, without importing timm: before a machine is rented.

`sizes.txt` is written by `python -m cloudrun.recipe.sizes` where timm is installed: a model a line that does not take
every size, then its own size and the step between the sizes that it takes; 0: its own size alone. What is not in the
list takes any size, or could not be tried. Of each kind of model, the smallest is tried (`kind_of`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cloudrun.recipe.gmacs import work_of

_LIST = Path(__file__).with_name("sizes.txt")
_STEPS = (32, 28, 24, 64, 56, 48, 112, 128, 96, 224)  # that are tried first
_SMALLER = (16, 8, 4, 2, 1, 14, 7, 12)


@dataclass(frozen=True, slots=True)
class Sizes:
    """`own`: the size that a model was made for, in pixels. `step`: it takes multiples of this; 0: `own` alone."""

    own: int
    step: int

    def takes(self, size: int) -> bool:
        return size == self.own if self.step == 0 else size % self.step == 0

    def nearest(self, size: int) -> list[int]:
        """Return the sizes next to `size` that the model takes: one, or the next smaller and larger."""
        if self.step == 0:
            return [self.own]
        smaller = size // self.step * self.step
        return [one for one in (smaller, smaller + self.step) if one]


def sizes_of_backbone(backbone: str) -> Sizes | None:
    """Return which sizes `backbone` takes, with or without the tag of its weights; None: any, or nobody knows."""
    return _known().get(backbone.partition(".")[0])


@cache
def _known() -> dict[str, Sizes]:
    lines = (line.split() for line in _LIST.read_text(encoding="utf-8").splitlines())
    return {name: Sizes(int(own), int(step)) for name, own, step in lines}


def measure(name: str) -> Sizes | None:
    """Try sizes on a model of the installed timm, on shapes alone; None where it takes any, or cannot be tried."""
    import timm

    cfg = timm.models.get_pretrained_cfg(name)
    if cfg is None or len(set(cfg.input_size[1:])) != 1:
        return None
    own = int(cfg.input_size[1])
    if not _runs(name, own, is_fixed=bool(cfg.fixed_input_size)):
        return None

    def takes(size: int) -> bool:
        return _runs(name, size, is_fixed=bool(cfg.fixed_input_size))

    if takes(own + 1):
        return None
    step = _first(own, _STEPS, takes)
    if step is None:
        others = (2 * own, own - 32, own - 64, own + 8, own + 16)
        return None if any(map(takes, filter(None, others))) else Sizes(own, 0)
    smaller = [one for one in _SMALLER if step % one == 0 and takes(own + one)]
    step = min([step, *smaller])
    # Multiples of the step have to hold around the size, and the half of it has to fail: else nothing is claimed.
    fits = own % step == 0 and takes(own + 2 * step) and (own <= step or takes(own - step))
    return Sizes(own, step) if fits and step > 1 else None


def _first(own: int, steps: Iterable[int], takes: Callable[[int], bool]) -> int | None:
    return next((step for step in steps if takes(own + step)), None)


def _runs(name: str, size: int, *, is_fixed: bool) -> bool:
    """Whether the model, told the size where it takes such an option, makes features of an image of that size."""
    import timm
    import torch

    with torch.device("meta"), torch.no_grad():
        for options in ({"img_size": size}, {}) if is_fixed else ({},):
            try:
                model: Any = timm.create_model(name, pretrained=False, num_classes=0, **options)
            except TypeError:  # a model that does not know the option
                continue
            except Exception:  # noqa: BLE001 - models refuse sizes in ways of their own
                return False
            patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
            side = patch[0] if isinstance(patch, tuple) else patch
            if isinstance(side, int) and size % side:
                return False  # the trainer refuses to cut off the pixels beyond the last whole patch
            try:
                return bool(model.eval()(torch.zeros(1, 3, size, size)).ndim == 2)
            except Exception:  # noqa: BLE001
                return False
    return False


def kind_of(name: str) -> tuple[str, ...]:
    """Return what models share that take the same sizes: module, family, own size, and patches and windows by name."""
    import timm

    cfg = timm.models.get_pretrained_cfg(name)
    own = "" if cfg is None else f"{cfg.input_size} {bool(cfg.fixed_input_size)}"
    family = re.match(r"[a-z]+", name)
    marks = re.findall(r"patch\d+|window\d+|win\d+|_ns|rmlp|clip|siglip|reg\d", name)
    module = timm.models.model_entrypoint(name).__module__
    return (module, family[0] if family else name, own, *marks)


def list_of_timm() -> str:
    """Return the content of `sizes.txt` for the installed timm: of each kind of model the smallest is tried."""
    import timm

    kinds: dict[tuple[str, ...], list[str]] = {}
    for name in timm.list_models():
        kinds.setdefault(kind_of(name), []).append(name)
    found: dict[str, Sizes | None] = {}
    for names in kinds.values():
        sizes = measure(min(names, key=_parameters))
        found.update(dict.fromkeys(names, sizes))
    return "".join(f"{name} {sizes.own} {sizes.step}\n" for name, sizes in sorted(found.items()) if sizes is not None)


def _parameters(name: str) -> float:
    work = work_of(name, 224)
    return work.parameters_m if work is not None else float("inf")


if __name__ == "__main__":
    _LIST.write_text(list_of_timm(), encoding="utf-8")
