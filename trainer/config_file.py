"""Read what a run is told: the YAML file of `--config` (the train section, or a whole job file), and its hours."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cloudrun.recipe.problems import describe
from cloudrun.recipe.train_config import TrainConfig
from trainer.errors import ConfigError


def load_config(path: Path) -> TrainConfig:
    """Read `path`: the train section itself, or a job file, of which only `train:` is read.

    Raises ConfigError naming the first problem.
    """
    tree = _read_tree(path)
    is_job = isinstance(tree.get("train"), dict) or ("train" in tree and tree["train"] is None)
    section: dict[str, Any] = (tree["train"] or {}) if is_job else tree
    try:
        return TrainConfig.model_validate(section)
    except ValidationError as err:
        problems = describe(err, TrainConfig, "train" if is_job else "")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ConfigError(f"{path}: {problems[0].message}{more}", hint=problems[0].hint) from None


def _read_tree(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no config file {path}", hint="`--config` takes a YAML file") from None
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path} cannot be read: {err}", hint="it has to be a UTF-8 text file") from None
    except yaml.YAMLError as err:
        raise ConfigError(
            f"{path} is not valid YAML: {' '.join(str(err).split())}", hint="check indentation, colons and quotes"
        ) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} is not a mapping of keys", hint="for example `epochs: 30`")
    return {str(key): value for key, value in tree.items()}


def hours_left(environment: Mapping[str, str] = os.environ) -> float | None:
    """Return the hours that the job's budget leaves to train, as cloudrun's worker says; None without a worker.

    Raises ConfigError where the variable is not a number of hours.
    """
    text = environment.get("CLOUDRUN_TRAIN_HOURS")
    if not text:
        return None
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 <= hours < math.inf:
        raise ConfigError(f"CLOUDRUN_TRAIN_HOURS is `{text}`, not hours", hint="leave it out, or set a number")
    return hours
