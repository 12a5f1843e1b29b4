"""Refuse image sizes of a config that do not fit together, or that a backbone cannot take. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

from cloudrun.recipe.backbones import patch_of
from cloudrun.recipe.one_size import sees_one_size
from cloudrun.recipe.sizes import sizes_of_backbone

if TYPE_CHECKING:
    from cloudrun.recipe.train_config import TrainConfig


def check_sizes(config: TrainConfig) -> None:
    """Raise PydanticCustomError for the first mistake."""
    _check_growth(config)
    _check_views(config)
    _check_one_size(config)
    _check_patches(config)
    _check_backbones(config)


def _check_growth(config: TrainConfig) -> None:
    for smaller, larger in (("start_image_size", "image_size"), ("image_size", "final_image_size")):
        first, last = getattr(config, smaller), getattr(config, larger)
        if first is not None and last is not None and first > last:
            raise PydanticCustomError(
                "shrinks",
                "`{smaller}` is {first}, and `{larger}` {last}: images grow, they do not shrink",
                {
                    "smaller": smaller,
                    "first": first,
                    "larger": larger,
                    "last": last,
                    "hint": f"lower `{smaller}`" if smaller == "start_image_size" else f"raise `{larger}`",
                },
            )


def _check_views(config: TrainConfig) -> None:
    from cloudrun.recipe.progressive import SHARES_BELOW, view_sizes

    for wanted in config.tta_sizes:
        is_share = wanted < SHARES_BELOW
        if (is_share and not 0.25 <= wanted <= 4) or (not is_share and (wanted != int(wanted) or wanted < 32)):
            raise PydanticCustomError(
                "no_size",
                "{wanted} in `tta_sizes` is neither a share from 0.25 to 4 nor whole pixels from 32",
                {"wanted": f"{wanted:g}", "hint": "for example `tta_sizes: [1, 1.25]`, or `[224, 288]`"},
            )
    sizes = view_sizes(config)
    too_large = [size for size in sizes if size > _MOST_PIXELS]
    if too_large:
        raise PydanticCustomError(
            "too_large",
            "`tta_sizes` asks for {size} px, and the most is {most} px",
            {"size": too_large[0], "most": _MOST_PIXELS, "hint": "lower `tta_sizes`"},
        )
    twice = [size for place, size in enumerate(sizes) if size in sizes[:place]]
    if twice:
        raise PydanticCustomError(
            "twice",
            "`tta_sizes` asks twice for {size} px: shares become multiples of 32 px",
            {"size": twice[0], "hint": "leave one of the two out, or take sizes that differ more"},
        )


def _check_one_size(config: TrainConfig) -> None:
    """Refuse a second size for a model that takes images of one size alone."""
    from cloudrun.recipe.progressive import sizes_seen

    others = [size for size in sizes_seen(config) if size != config.image_size]
    for name in config.backbones if others else ():
        if sees_one_size(name):
            keys = [key for key in _SIZE_KEYS if getattr(config, key)]
            raise PydanticCustomError(
                "one_size",
                "`{name}` takes images of one size alone, {size} px here, and `{keys}` asks for {other} px",
                {
                    "name": name,
                    "size": config.image_size,
                    "keys": "`, `".join(keys),
                    "other": others[0],
                    "hint": f"leave out `{keys[0]}`"
                    + (" (`tta: dihedral` needs no other size)" if "tta_sizes" in keys else "")
                    + ", or take another backbone",
                },
            )


def _check_patches(config: TrainConfig) -> None:
    """Refuse a size that is not made of whole patches: timm would cut the rest off without a word."""
    from cloudrun.recipe.progressive import sizes_seen

    for name in config.backbones:
        patch = patch_of(name)
        odd = [size for size in sizes_seen(config) if patch is not None and size % patch]
        if patch is None or not odd:
            continue
        smaller = odd[0] // patch * patch
        hint = _way_out(config, odd[0], f"{smaller or patch} or {smaller + patch}")
        raise PydanticCustomError(
            "patches",
            "`{name}` sees patches of {patch} px, and {size} px are not a multiple",
            {"name": name, "patch": patch, "size": odd[0], "hint": hint},
        )


def _check_backbones(config: TrainConfig) -> None:
    """Refuse a size that a backbone does not take, as far as its sizes are known."""
    from cloudrun.recipe.progressive import sizes_seen

    for name in config.backbones:
        known = sizes_of_backbone(name)
        odd = [size for size in sizes_seen(config) if known is not None and not known.takes(size)]
        if known is None or not odd:
            continue
        right = " or ".join(map(str, known.nearest(odd[0])))
        hint = _way_out(config, odd[0], right)
        if odd[0] == config.image_size:
            hint += ", or take another backbone"
        raise PydanticCustomError(
            "size",
            "`{name}` takes images of {right} px alone, and not {size} px"
            if known.step == 0
            else "`{name}` takes images of multiples of {step} px, and not {size} px",
            {"name": name, "right": right, "step": known.step, "size": odd[0], "hint": hint},
        )


def _way_out(config: TrainConfig, size: int, right: str) -> str:
    """Return the hint for a size that does not fit: the key that asks for it, and the sizes that fit."""
    if size == config.image_size:
        return f"set `image_size` to {right}"
    key = next((key for key in ("final_image_size", "test_image_size") if getattr(config, key) == size), None)
    if key is not None:
        return f"set `{key}` to {right}"
    if config.tta_sizes:
        return f"write pixels into `tta_sizes`: {right}"
    return "leave out `start_image_size`, or take another backbone"


_MOST_PIXELS = 2048
_SIZE_KEYS = ("tta_sizes", "test_image_size", "final_image_size", "start_image_size")
