"""Folders as cross-validation leaves them, with predictions of a chosen skill, and what stacking makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.atomic import write_json
from trainer.model.targets import DecisionRule
from trainer.outputs.predictions import Predictions, write_oof, write_test_predictions
from trainer.stacking.learners import LEARNERS, Floats, Ints, open_learners
from trainer.stacking.stack import stack

CLASSES = ("blight", "healthy", "rust")
FOLDS = 3


def a_run(
    folder: Path,
    sure: Floats,
    truth: Ints,
    *,
    test: Floats | None = None,
    classes: tuple[str, ...] = CLASSES,
    fold_of: Ints | None = None,
    names: Callable[[int], str] = "train/{:04d}.jpg".format,
    **summary: Any,
) -> Path:
    """What `folds` leaves: `sure` (N, classes) are logits of the labelled images, `test` those of the test images."""
    places = even_folds(truth) if fold_of is None else fold_of
    for fold in range(FOLDS):
        rows = np.flatnonzero(places == fold)
        images = tuple(names(int(row)) for row in rows)
        labels = tuple((classes[truth[row]],) for row in rows)
        part = Predictions(classes, images, torch.from_numpy(sure[rows]).softmax(1), labels)
        write_oof(folder / f"fold-{fold}" / "oof.csv", part, DecisionRule())
        if test is not None:
            # each fold's model is of a slightly different opinion
            of_fold = torch.from_numpy(test + 0.1 * fold).softmax(1)
            images = tuple(f"test/{row:04d}.jpg" for row in range(len(test)))
            for path in (folder / f"fold-{fold}" / "predictions.csv", folder / "predictions.csv"):
                write_test_predictions(path, Predictions(classes, images, of_fold), DecisionRule())
    facts = {"folds": FOLDS, "thresholds": None, "calibration": {"is_applied": False}}
    write_json(folder / "summary.json", {**facts, **summary})
    return folder


def even_folds(truth: Ints) -> Ints:
    """Each class spread over the folds, as `cloudrun.imagedata.folds` spreads it."""
    places = np.zeros_like(truth)
    for label in range(len(CLASSES)):
        of_class = np.flatnonzero(truth == label)
        places[of_class] = np.arange(len(of_class)) % FOLDS
    return places


def opinions(truth: Ints, *, skill: float, seed: int) -> Floats:
    """Logits that favour the true class by `skill`, in noise of deviation 1."""
    sure = np.random.default_rng(seed).normal(size=(len(truth), len(CLASSES)))
    sure[np.arange(len(truth)), truth] += skill
    return sure


def labels(count: int, seed: int = 0) -> Ints:
    return np.asarray(np.random.default_rng(seed).permutation(np.arange(count) % len(CLASSES)), dtype=np.int64)


def stacked(folders: list[Path], out: Path, **options: Any) -> tuple[dict[str, Any], list[str]]:
    """stacking.json, and what was said."""
    said: list[str] = []
    summary = stack(folders, out=out, **{"learners": open_learners(tuple(LEARNERS)), "say": said.append, **options})
    assert summary == json.loads((out / "stacking.json").read_text())
    return summary, said
