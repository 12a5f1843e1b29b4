"""Read and write best.pt and last.pt: plain values and tensors, loadable with torch.load(weights_only=True).

best.pt   config, classes, epoch, step, val_accuracy, val_loss, model
last.pt   the same, and what a resumed run needs: batch_size, optimizer, scaler, tally, metrics, ...
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cloudrun.recipe.train_config import TrainConfig
from trainer.atomic import replacing
from trainer.errors import ConfigError, TrainerError

FORMAT = 1
# Keys that may change when a run is resumed: they decide how fast, or how long, not what was learned so far.
_MAY_CHANGE = frozenset(
    (
        "epochs", "workers", "device", "precision", "micro_batch", "checkpoint_minutes", "pretrained", "cache_gb",
        "max_unreadable", "tta", "tta_sizes", "memory_format", "compile", "sync_batchnorm",
        "patience", "train_hours", "trackers", "grad_checkpointing",
    )
)  # fmt: skip

State = dict[str, Any]


def save(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint. A kill at any instant leaves the previous file complete."""
    with replacing(path) as file:
        torch.save({"format": FORMAT, **state}, file)


def load(path: Path) -> State:
    """Return a checkpoint with tensors on the CPU. Raises TrainerError where the file is absent or malformed."""
    try:
        state = _loaded(path)
    except FileNotFoundError:
        raise TrainerError(f"there is no checkpoint {path}", hint="`train` writes checkpoints/best.pt") from None
    except Exception as err:  # a damaged file makes zipfile, pickle and torch raise anything
        why = (str(err).splitlines() or [type(err).__name__])[0]
        raise TrainerError(f"{path} is not a checkpoint: {why}", hint="it is damaged; remove it") from err
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise TrainerError(f"{path} is not a checkpoint of this trainer", hint="name a best.pt or last.pt")
    return state


def _loaded(path: Path) -> Any:
    if path.is_file() and not zipfile.is_zipfile(path):
        raise zipfile.BadZipFile("not a zip archive")
    return torch.load(path, map_location="cpu", weights_only=True)


def check_config(saved: Mapping[str, Any], config: TrainConfig, path: Path) -> None:
    """Raise ConfigError naming the keys of `config` that would make it another run than `saved`."""
    now = config.model_dump(mode="json")
    before = {**TrainConfig().model_dump(mode="json"), **saved}  # keys that are newer than the checkpoint
    differ = [key for key in now if key not in _MAY_CHANGE and before[key] != now[key]]
    if differ:
        changes = ", ".join(f"`{key}` was {before[key]} and is now {now[key]}" for key in differ)
        raise ConfigError(
            f"{path} is of another run: {changes}",
            hint=f"name another `--out` folder, restore the config, or remove {path.parent} to start afresh",
        )
