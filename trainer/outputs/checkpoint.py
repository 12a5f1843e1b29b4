"""best.pt and last.pt: plain values and tensors, loadable with torch.load(weights_only=True).

best.pt   config, classes, epoch, step, val_accuracy, val_loss, model
last.pt   these and what goes on from there: batch_size, optimizer, scaler, tally, metrics, ...
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cloudrun.recipe.train_config import TrainConfig
from trainer.atomic import replacing
from trainer.errors import ConfigError, TrainerError

FORMAT = 1
# What may change between one start and the next: it decides how fast, or how long, not what is learned by then.
_MAY_CHANGE = frozenset(
    (
        "epochs", "workers", "device", "precision", "micro_batch", "checkpoint_minutes", "pretrained", "cache_gb",
        "max_unreadable", "tta", "memory_format", "compile", "sync_batchnorm",
    )
)  # fmt: skip

State = dict[str, Any]


def save(state: Mapping[str, Any], path: Path) -> None:
    """A kill at any instant leaves the previous file whole."""
    with replacing(path) as file:
        torch.save({"format": FORMAT, **state}, file)


def load(path: Path) -> State:
    """Tensors on the CPU. Raises TrainerError where the file is absent or not one of ours."""
    if path.is_file() and not zipfile.is_zipfile(path):  # what torch makes of other bytes ends in any exception
        raise TrainerError(f"{path} is not a checkpoint: it is no zip archive", hint="it is damaged; remove it")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TrainerError(f"there is no checkpoint {path}", hint="`train` writes checkpoints/best.pt") from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as err:
        raise TrainerError(
            f"{path} is not a checkpoint: {str(err).splitlines()[0]}", hint="it is damaged; remove it"
        ) from err
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise TrainerError(f"{path} is not a checkpoint of this trainer", hint="name a best.pt or last.pt")
    return state


def check_config(saved: Mapping[str, Any], config: TrainConfig, path: Path) -> None:
    """Raise ConfigError naming the keys in which `config` would go on with another run than `saved`."""
    now = config.model_dump(mode="json")
    differ = [key for key in now if key not in _MAY_CHANGE and saved.get(key) != now[key]]
    if differ:
        changes = ", ".join(f"`{key}` was {saved.get(key)} and is now {now[key]}" for key in differ)
        raise ConfigError(
            f"{path} is of another run: {changes}",
            hint=f"name another `--out` folder, restore the config, or remove {path.parent} to start afresh",
        )
