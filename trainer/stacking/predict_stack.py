"""Predict images as a stack does: its runs' folds predict them, and the chosen method combines the predictions.

A stack keeps no learners. They are fitted again to the runs' out-of-fold predictions, which gives the same ones: their
seeds are fixed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cloudrun.imagedata.image_list import ImageList
from trainer.cross_validation.predict_folds import predict_folds
from trainer.errors import TrainerError
from trainer.model.targets import DecisionRule
from trainer.outputs.predictions import Predictions
from trainer.stacking.fold_runs import read_runs
from trainer.stacking.learners import open_learners
from trainer.stacking.stack import ALL, AVERAGE, TEMPERED, build_level, learn
from trainer.training.predicting import DeviceName

STACKING = "stacking.json"


def predict_stack(
    folder: Path, images: ImageList, *, device: DeviceName, tta: str | None, say: Callable[[str], None]
) -> tuple[Predictions, DecisionRule]:
    """Return the predictions of the method that the stack in `folder` has chosen, and its rule.

    Raises TrainerError where its runs are not there any more, have changed, or it learned from features.
    """
    told = _told(folder)
    runs = [
        replace(
            run, tests=predict_folds(run.folder, images, device=device, tta=tta, say=_of_run(run.folder, say)).parts
        )
        for run in read_runs(_folders(folder, told["runs"]))
    ]
    if list(runs[0].out_of_fold.classes) != told["classes"] or len(runs[0].out_of_fold.images) != told["images"]:
        raise TrainerError(
            f"{runs[0].folder} has other images or classes than {folder} was made of",
            hint="stack the runs again: `python -m cloudrun.trainer stack`",
        )
    chosen = told["chosen"]
    say(f"combining the folds' predictions by `{chosen}`")
    names = _learners(chosen, told["methods"])
    learners = open_learners(names) if names else {}
    methods = learn(build_level(runs, []), learners)
    (test,) = [method.test for method in methods if method.name == chosen]
    assert test is not None
    predictions = Predictions(runs[0].out_of_fold.classes, images.names, torch.from_numpy(test))
    if told["thresholds"] is None:
        return predictions, DecisionRule()
    limits = tuple(float(told["thresholds"][name]) for name in predictions.classes)
    return predictions, DecisionRule(limits, allows_none=runs[0].allows_none)


def _told(folder: Path) -> dict[str, Any]:
    path = folder / STACKING
    keys = ("runs", "classes", "images", "chosen", "methods", "thresholds", "has_features")
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        told = {key: summary[key] for key in keys}
    except (OSError, ValueError, TypeError, KeyError) as err:
        raise TrainerError(f"{path} cannot be read: {err}", hint="stack the runs again") from None
    if told["has_features"]:
        raise TrainerError(
            f"{folder} learned from features, too, and those heads are not kept",
            hint="stack the runs without `--features`; or put the images into the data's test folder and stack again",
        )
    return told


def _folders(folder: Path, named: Sequence[str]) -> list[Path]:
    """Return the runs' folders: as they were named, or beside the stack's own folder."""
    found = []
    for name in named:
        places = [Path(name), folder.absolute().parent / name, folder.absolute().parent / Path(name).name]
        place = next((one for one in places if one.is_dir()), None)
        if place is None:
            raise TrainerError(
                f"{folder / STACKING} is of the run {name}, which is not there",
                hint=f"call the command in the folder where `stack` was called, or put the run beside {folder}",
            )
        found.append(place)
    return found


def _learners(chosen: str, methods: Sequence[str]) -> list[str]:
    if chosen in (AVERAGE, TEMPERED):
        return []
    return [name for name in methods if name not in (AVERAGE, TEMPERED, ALL)] if chosen == ALL else [chosen]


def _of_run(folder: Path, say: Callable[[str], None]) -> Callable[[str], None]:
    return lambda line: say(f"{folder.name}, {line}")
