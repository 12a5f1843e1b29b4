"""Look up the model names of timm without importing timm, so that a typo is found before money is spent.

`backbones.txt` is written by `python -m cloudrun.recipe.backbones` where timm is installed: a model a line, followed by
the tags of its pretrained weights.
"""

from __future__ import annotations

import difflib
import re
from functools import cache
from pathlib import Path

_LIST = Path(__file__).with_name("backbones.txt")


@cache
def known_backbones() -> dict[str, tuple[str, ...]]:
    """Return timm's model names, each with the tags of its pretrained weights (none: random weights only)."""
    lines = _LIST.read_text(encoding="utf-8").splitlines()
    return {name: tuple(tags) for name, *tags in (line.split() for line in lines)}


def is_known(backbone: str) -> bool:
    """Return whether timm has `backbone`: the name of a model, with or without the tag of its weights."""
    name, dot, tag = backbone.partition(".")
    tags = known_backbones().get(name)
    return tags is not None and (not dot or tag in tags)


def has_weights(backbone: str) -> bool:
    """Return whether timm has pretrained weights for `backbone`."""
    return bool(known_backbones().get(backbone.partition(".")[0]))


def patch_of(backbone: str) -> int | None:
    """Return the pixels a side of a vision transformer's patches, by its name; None for other models."""
    found = re.search(r"_patch(\d+)", backbone)
    if found is None and backbone.startswith("test_vit"):  # timm's small models for trials do not name theirs
        return 16
    return int(found[1]) if found else None


def nearest(backbone: str) -> list[str]:
    """Return up to three names that may have been meant by `backbone`, best first."""
    name, dot, tag = backbone.partition(".")
    tags = known_backbones().get(name)
    if dot and tags:
        near_tags = difflib.get_close_matches(tag, tags, n=3, cutoff=0.3) or list(tags[:3])
        return [f"{name}.{near}" for near in near_tags]
    squeezed = {_squeeze(known): known for known in reversed(known_backbones())}
    meant = squeezed.get(_squeeze(name))
    return [meant] if meant else difflib.get_close_matches(name.lower(), known_backbones(), n=3, cutoff=0.6)


def list_of_timm() -> str:
    """Return the content of `backbones.txt` for the installed timm."""
    import timm

    tags: dict[str, list[str]] = {name: [] for name in timm.list_models()}
    for full in timm.list_models(pretrained=True):
        name, _, tag = full.partition(".")
        tags[name].extend([tag] if tag else [])
    return "".join(f"{' '.join([name, *tags[name]])}\n" for name in sorted(tags))


def _squeeze(name: str) -> str:
    """Return the name without case and punctuation: `EfficientNet-B3` and `efficientnet_b3` are equal."""
    return "".join(c for c in name.lower() if c.isalnum())


if __name__ == "__main__":
    _LIST.write_text(list_of_timm(), encoding="utf-8")
