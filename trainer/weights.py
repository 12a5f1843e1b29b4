"""Pretrained weights in a folder, for machines without internet. Imports no torch: cloudrun looks before it rents."""

from __future__ import annotations

from pathlib import Path

from trainer.errors import TrainerError

_WEIGHT_SUFFIXES = (".pth", ".safetensors")


def weight_file(name: str, folder: Path) -> Path:
    """`<timm name>.pth` or `.safetensors` in `folder`, with or without the tag of the weights."""
    stems = dict.fromkeys((name, name.partition(".")[0]))
    for path in (folder / f"{stem}{suffix}" for stem in stems for suffix in _WEIGHT_SUFFIXES):
        if path.is_file():
            return path
    if not folder.is_dir():
        raise TrainerError(f"`pretrained`: there is no folder {folder}", hint="name a folder, or true, or false")
    found = sorted(path.name for path in folder.iterdir() if path.suffix in _WEIGHT_SUFFIXES)
    raise TrainerError(
        f"{folder} has no weights for `{name}`; it has {', '.join(found) or 'no weights at all'}",
        hint=f"put {name}.pth or {name}.safetensors there, or choose other `backbones`",
    )
