"""Look up what timm's models can do, without importing timm: pool maps otherwise, and recompute activations.

`abilities.txt` is written by `python -m cloudrun.recipe.abilities` where timm is installed: the models, a line each,
that lack an ability, followed by what they lack.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

Ability = Literal["gem", "checkpointing"]

_LIST = Path(__file__).with_name("abilities.txt")


@cache
def _lacking() -> dict[str, tuple[str, ...]]:
    lines = _LIST.read_text(encoding="utf-8").splitlines()
    return {name: tuple(lacks) for name, *lacks in (line.split() for line in lines)}


def can(backbone: str, ability: Ability) -> bool:
    """Return whether `backbone` (a timm name, with or without tag) has `ability`; true for an unknown name.

    `gem`: exactly one layer of the model pools maps, so that another pooling can take its place. `checkpointing`: timm
    can recompute the model's activations in the backward pass.
    """
    return ability not in _lacking().get(backbone.partition(".")[0], ())


def list_of_timm() -> str:
    """Return the content of `abilities.txt` for the installed timm (minutes: each model is built, without memory)."""
    import timm
    import torch
    from timm.layers import SelectAdaptivePool2d

    lines = []
    for name in timm.list_models():
        with torch.device("meta"):
            try:
                model = timm.create_model(name, num_classes=0)
            except (NotImplementedError, RuntimeError):  # it computes with values while it is built
                with torch.device("cpu"):
                    model = timm.create_model(name, num_classes=0)
        lacks = [] if sum(isinstance(one, SelectAdaptivePool2d) for one in model.modules()) == 1 else ["gem"]
        try:
            model.set_grad_checkpointing(True)
        except (AssertionError, AttributeError):
            lacks.append("checkpointing")
        if lacks:
            lines.append(f"{' '.join([name, *lacks])}\n")
    return "".join(lines)


if __name__ == "__main__":
    _LIST.write_text(list_of_timm(), encoding="utf-8")
