"""Mutated files of pretrained weights."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from random import Random

import timm
import torch
from safetensors.torch import save

from benchmarks.mutate_data.damage import damaged
from benchmarks.mutate_data.verdicts import Outcome
from cloudrun.errors import CloudrunError
from cloudrun.recipe.train_config import TrainConfig
from cloudrun.recipe.weights import NoWeights, weight_file
from trainer.model.ensemble import build_model

BACKBONE = "test_resnet"
_NOT_WEIGHTS = (
    b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", b"<!DOCTYPE html><html></html>",
    b"\n<html>404</html>", b'{"error": "not found"}', b"PK\x03\x04", b"\x80\x02.", b"\x80\x02}q\x00.", b"\0" * 64,
    b"\x02\0\0\0\0\0\0\0{}", b"GIF89a",
)  # fmt: skip


def try_weights(dice: Random, folder: Path) -> Outcome:
    """Put a file in place of a small backbone's weights, and load it as a run does, where `check` takes it."""
    suffix = dice.choice((".pth", ".safetensors"))
    content = dice.choice(_NOT_WEIGHTS) if dice.random() < 0.1 else dice.choice(_whole()[suffix])
    if dice.random() < 0.9:
        content = damaged(content, dice)
    (folder / f"{BACKBONE}{suffix}").write_bytes(content)
    try:
        weight_file(BACKBONE, folder)
    except NoWeights:
        return Outcome.REFUSED
    try:
        build_model(TrainConfig(backbones=(BACKBONE,), pretrained=str(folder), image_size=64), classes=2)
    except CloudrunError:
        return Outcome.SEEN_LATER
    return Outcome.READ


@functools.cache
def _whole() -> dict[str, tuple[bytes, ...]]:
    torch.manual_seed(0)
    held = timm.create_model(BACKBONE, pretrained=False).state_dict()
    forms = []
    for tree, is_zip in ((held, True), (held, False), ({"state_dict": held, "epoch": 3}, True)):
        file = io.BytesIO()
        torch.save(tree, file, _use_new_zipfile_serialization=is_zip)
        forms.append(file.getvalue())
    return {".pth": tuple(forms), ".safetensors": (save(held),)}
