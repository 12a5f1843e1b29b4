"""Know which backbones see images of one size alone, so that a second size is refused before money is spent.

`one_size.txt` is written by `python -m cloudrun.recipe.one_size` where timm is installed: a model a line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from cloudrun.recipe.backbones import patch_of

_LIST = Path(__file__).with_suffix(".txt")
# Options by which timm's models of fixed size take other sizes than that of their creation.
SEVERAL_SIZES: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})


@cache
def names_of_one_size() -> frozenset[str]:
    """Return the models of timm that take images of the size alone for which they are created."""
    return frozenset(_LIST.read_text(encoding="utf-8").split())


def sees_one_size(backbone: str) -> bool:
    """Return whether `backbone` (with or without the tag of its weights) takes images of one size alone in a run."""
    return backbone.partition(".")[0] in names_of_one_size()


def measure(name: str) -> bool:
    """Return whether a model of the installed timm fails at any other size; on shapes alone."""
    import timm
    import torch

    cfg = timm.models.get_pretrained_cfg(name)
    if cfg is None or not cfg.fixed_input_size:
        return False
    size = cfg.input_size[-1]
    for options in SEVERAL_SIZES:
        try:
            with torch.device("meta"):
                model = timm.create_model(name, num_classes=0, img_size=size, **options)
        except TypeError:
            continue
        assert isinstance(model, torch.nn.Module)
        with torch.no_grad():
            return not any(_takes(model.eval(), other) for other in _other_sizes(name, size))
    return True


def _other_sizes(name: str, size: int) -> Iterator[int]:
    """Yield a size that is a quarter larger, in whole patches, and the double size, at which windows still fit."""
    patch = patch_of(name) or 32
    yield round(size * 1.25 / patch) * patch
    yield 2 * size


def _takes(model: Any, size: int) -> bool:
    import torch

    try:
        model(torch.zeros(1, 3, size, size, device="meta"))
    except Exception:  # noqa: BLE001 - models fail on shapes alone in ways of their own
        return False
    return True


def list_of_timm() -> str:
    """Return the content of `one_size.txt` for the installed timm.

    Of each of timm's modules the two smallest models of fixed size are tried; all of them, where these two differ.
    """
    import timm
    from timm.models._registry import _model_to_module

    groups: dict[str, list[str]] = {}
    for name in timm.list_models():
        cfg = timm.models.get_pretrained_cfg(name)
        if cfg is not None and cfg.fixed_input_size:
            groups.setdefault(_model_to_module[name], []).append(name)
    found: list[str] = []
    for names in groups.values():
        first, *others = sorted(names, key=_size_of)
        tried = {name: measure(name) for name in (first, *others[:1])}
        if len(set(tried.values())) > 1:
            tried |= {name: measure(name) for name in others[1:]}
        found += [name for name in names if tried.get(name, tried[first])]
    return "".join(f"{name}\n" for name in sorted(found))


def _size_of(name: str) -> float:
    from cloudrun.recipe.gmacs import work_of

    work = work_of(name, 224)
    return math.inf if work is None else work.gmacs


if __name__ == "__main__":
    _LIST.write_text(list_of_timm(), encoding="utf-8")
