"""Read the folder of `python -m trainer folds`: the predictions of each fold, and which images it validated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cloudrun.imagedata.labels import SEPARATOR
from trainer.cross_validation.train_folds import join_out_of_fold
from trainer.errors import TrainerError
from trainer.outputs.predictions import Predictions, read_predictions

_OFF = 1e-2  # six digits a class add up over many classes
_SAME = "runs stand side by side only with the same images, labels, `seed`, `folds` and `groups`"


@dataclass(frozen=True)
class FoldRun:
    """A run of all folds. `out_of_fold`: every labelled image once, sorted; `fold_of`: the fold of each, from 0.

    `tests`: predictions of the test images by the model of each fold, before any `--calibrate`; empty without test
    images.
    """

    folder: Path
    out_of_fold: Predictions
    fold_of: Tensor
    tests: tuple[Predictions, ...] = ()
    is_calibrated: bool = False
    has_several: bool = False

    @property
    def truth(self) -> Tensor:
        """int64 (N,): the class of each image; where it may have several, (N, classes) of 0 and 1."""
        wanted = self.out_of_fold.wanted.long()
        return wanted if self.has_several else wanted.argmax(1)

    @property
    def allows_none(self) -> bool:
        """Whether an image may have no class."""
        return not all(self.out_of_fold.truth or ())

    @property
    def folds(self) -> int:
        return int(self.fold_of.max().item()) + 1

    @property
    def test_images(self) -> tuple[str, ...]:
        return self.tests[0].images if self.tests else ()

    def best_path(self, fold: int) -> Path:
        return self.folder / f"fold-{fold}" / "checkpoints" / "best.pt"


def read_runs(folders: Sequence[Path]) -> tuple[FoldRun, ...]:
    """Return the runs in `folders`, of the same images, classes and folds. Raises TrainerError naming a difference."""
    for at, folder in enumerate(folders):
        if any(folder.resolve() == other.resolve() for other in folders[:at]):
            raise TrainerError(f"{folder} is given twice", hint="name each run once")
    runs = tuple(read_run(folder) for folder in folders)
    for run in runs[1:]:
        _check_fits(run, runs[0])
    return runs


def read_run(folder: Path) -> FoldRun:
    """Return the run in `folder`. Raises TrainerError where it is not complete."""
    summary = _summary(folder)
    has_several = summary["has_several"]
    parts = [_part(folder, fold, "oof.csv", has_several=has_several) for fold in range(summary["folds"])]
    whole = join_out_of_fold(parts)
    _check_truth(folder, whole, has_several=has_several)
    place = {image: fold for fold, part in enumerate(parts) for image in part.images}
    fold_of = torch.tensor([place[image] for image in whole.images])
    if not has_several:
        _check_teachable(folder, whole, fold_of)
    run = FoldRun(folder, whole, fold_of, is_calibrated=summary["calibration"]["is_applied"], has_several=has_several)
    if not (folder / "predictions.csv").exists():
        return run
    tests = tuple(_part(folder, fold, "predictions.csv", has_several=has_several) for fold in range(summary["folds"]))
    for fold, test in enumerate(tests):
        if test.classes != whole.classes or test.images != tests[0].images:
            raise TrainerError(
                f"{_path(folder, fold, 'predictions.csv')} has other images or classes than fold 0, or than oof.csv",
                hint=_again(folder, fold),
            )
    return replace(run, tests=tests)


def _summary(folder: Path) -> dict[str, Any]:
    path = folder / "summary.json"
    hint = "name an `--out` folder of `python -m cloudrun.trainer folds` that has ended"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as err:
        why = err.strerror if isinstance(err, OSError) else err
        raise TrainerError(f"{path} cannot be read: {why}", hint=hint) from None
    facts = summary if isinstance(summary, dict) else {}
    calibration = facts.get("calibration")
    if not isinstance(facts.get("folds"), int) or facts["folds"] < 2 or not isinstance(calibration, dict):
        raise TrainerError(f"{path} is not that of several folds", hint=hint)
    return {
        "folds": facts["folds"],
        "calibration": {"is_applied": calibration.get("is_applied") is True},
        "has_several": facts.get("thresholds") is not None,
    }


def _part(folder: Path, fold: int, name: str, *, has_several: bool) -> Predictions:
    path = _path(folder, fold, name)
    if not path.exists():
        raise TrainerError(f"there is no {path}: the run is not complete", hint=_again(folder, fold))
    part = read_predictions(path)
    if (part.truth is None) != (name == "predictions.csv"):
        column = "confidence" if name == "predictions.csv" else "truth"
        raise TrainerError(f"{path}:1: the third column is not `{column}`", hint=_again(folder, fold))
    if not has_several and ((part.probabilities.sum(1) - 1).abs() > _OFF).any():
        raise TrainerError(f"{path}: the probabilities of an image do not sum to 1", hint=_again(folder, fold))
    if not part.images:
        raise TrainerError(f"{path} names no image", hint=_again(folder, fold))
    return part


def _again(folder: Path, fold: int) -> str:
    return f"remove {_path(folder, fold, 'summary.json')}, and run the same `python -m cloudrun.trainer folds` again"


def _path(folder: Path, fold: int, name: str) -> Path:
    return folder / f"fold-{fold}" / name


def _check_truth(folder: Path, whole: Predictions, *, has_several: bool) -> None:
    for image, names in zip(whole.images, whole.truth or (), strict=True):
        is_known = all(whole.classes.count(name) == 1 for name in names)
        if not is_known or (len(names) != 1 and not has_several):
            raise TrainerError(
                f"{folder}: the truth of `{image}` is `{SEPARATOR.join(names)}`, which is not one of the classes",
                hint="restore the folds' oof.csv as they were written",
            )


def _check_teachable(folder: Path, whole: Predictions, fold_of: Tensor) -> None:
    """Raise TrainerError where a class occurs in one fold only: no model that is judged there has learned it."""
    for at, name in enumerate(whole.classes):
        folds = sorted(set(fold_of[whole.wanted[:, at]].tolist()))
        if len(folds) < 2:
            where = f"only in fold {folds[0]}" if folds else "of no image"
            raise TrainerError(
                f"{folder}: the class `{name}` is {where}: no model that is judged there has learned it",
                hint="train the folds with more images of it, or without it",
            )


def _check_fits(run: FoldRun, first: FoldRun) -> None:
    own, other = run.out_of_fold, first.out_of_fold
    if run.has_several != first.has_several:
        what = "an image may have several classes in one of them only"
    elif own.classes != other.classes:
        what = f"the classes are {', '.join(own.classes)} and {', '.join(other.classes)}"
    elif own.images != other.images:
        alone = sorted(set(own.images) ^ set(other.images))
        what = f"{len(alone)} image(s) are in one of them only, among them `{alone[0]}`"
    elif own.truth != other.truth:
        at = next(
            at
            for at, (label, expected) in enumerate(zip(own.truth or (), other.truth or (), strict=True))
            if label != expected
        )
        what = f"`{own.images[at]}` is labelled otherwise"
    elif not torch.equal(run.fold_of, first.fold_of):
        at = int((run.fold_of != first.fold_of).int().argmax().item())
        what = f"`{own.images[at]}` is in fold {run.fold_of[at]} and in fold {first.fold_of[at]}"
    elif run.test_images != first.test_images:
        what = f"they predict {len(run.test_images)} and {len(first.test_images)} test images, not the same ones"
    else:
        return
    raise TrainerError(f"{run.folder} does not fit to {first.folder}: {what}", hint=_SAME)
