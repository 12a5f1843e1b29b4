"""Predict images with the folds of a run: each fold's best model, and the mean of their probabilities."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cloudrun.imagedata.image_list import ImageList
from trainer.cross_validation.train_folds import mean_predictions
from trainer.errors import TrainerError
from trainer.model.targets import DecisionRule
from trainer.outputs.calibrate import tempered
from trainer.outputs.predictions import Predictions
from trainer.training.predicting import DeviceName, predict_with


@dataclass(frozen=True)
class FoldPredictions:
    """What the folds predict: `parts`, of each fold as its model said it; `mean`, with its `rule`."""

    parts: tuple[Predictions, ...]
    mean: Predictions
    rule: DecisionRule


def predict_folds(
    folder: Path, images: ImageList, *, device: DeviceName, tta: str | None, say: Callable[[str], None]
) -> FoldPredictions:
    """Predict `images` as `folds` predicted the run's test images, at its temperature where that was applied.

    Raises TrainerError where the run has not ended.
    """
    summary = summary_of(folder)
    count = summary["folds"]
    parts: list[Predictions] = []
    rules: list[DecisionRule] = []
    for fold in range(count):
        say(f"fold {fold} of {count}: predicting {len(images.files)} images")
        part, rule = predict_with(best_of(folder, fold), images, device=device, tta=tta)
        if rules and part.classes != parts[0].classes:
            raise TrainerError(
                f"fold {fold} of {folder} has other classes than fold 0", hint="fetch the run's files again"
            )
        parts.append(part)
        rules.append(rule)
    limits = summary["thresholds"]
    thresholds = None if limits is None else [float(limits[name]) for name in parts[0].classes]
    calibration, means = summary["calibration"], parts
    if calibration["is_applied"]:
        temperature, several = float(calibration["temperature"]), thresholds is not None
        means = [
            replace(part, probabilities=tempered(part.probabilities.double(), temperature, several=several))
            for part in parts
        ]
        if thresholds is not None:  # thresholds move with the probabilities
            thresholds = tempered(torch.tensor(thresholds), temperature, several=True).tolist()
    rule = DecisionRule() if thresholds is None else DecisionRule(tuple(thresholds), allows_none=rules[0].allows_none)
    return FoldPredictions(tuple(parts), mean_predictions(means), rule)


def is_folds_run(folder: Path) -> bool:
    """Return whether `folder` is a run of folds, complete or not."""
    return (folder / "fold-0").is_dir()


def best_of(folder: Path, fold: int) -> Path:
    """Return the best checkpoint of a fold."""
    return folder / f"fold-{fold}" / "checkpoints" / "best.pt"


def summary_of(folder: Path) -> dict[str, Any]:
    """Return `folds`, `thresholds` and `calibration` of a run of folds that has ended. Raises TrainerError."""
    path = folder / "summary.json"
    there = sum(1 for place in folder.glob("fold-*") if (place / "summary.json").is_file())
    unfinished = TrainerError(
        f"{folder} has {there} fold(s) that have ended, and no {path.name} of them all: the run was cut short",
        hint="train the others (`cloudrun resume RUN`), or predict with one fold: `--fold 0`",
    )
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        return {key: summary[key] for key in ("folds", "thresholds", "calibration")}
    except FileNotFoundError:
        raise unfinished from None
    except (OSError, ValueError, TypeError, KeyError) as err:
        raise TrainerError(f"{path} cannot be read: {err}", hint="fetch the run's files again") from None
