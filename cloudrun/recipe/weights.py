"""Find pretrained weights in a folder, for machines without internet. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from cloudrun.errors import CloudrunError

_WEIGHT_SUFFIXES = (".pth", ".safetensors")


class NoWeights(CloudrunError):
    """`pretrained` names a folder without the weights of a backbone."""


def weight_file(name: str, folder: Path) -> Path:
    """Return `<timm name>.pth` or `.safetensors` in `folder`, with or without the tag. Raises NoWeights."""
    stems = dict.fromkeys((name, name.partition(".")[0]))
    for path in (folder / f"{stem}{suffix}" for stem in stems for suffix in _WEIGHT_SUFFIXES):
        if path.is_file():
            return path
    if not folder.is_dir():
        raise NoWeights(f"`pretrained`: there is no folder {folder}", hint="name a folder, or true, or false")
    names = sorted(path.name for path in folder.iterdir() if path.suffix in _WEIGHT_SUFFIXES)
    raise NoWeights(
        f"{folder} has no weights for `{name}`; it has {', '.join(names) or 'no weights at all'}",
        hint=f"put {name}.pth or {name}.safetensors there, or choose other `backbones`",
    )
