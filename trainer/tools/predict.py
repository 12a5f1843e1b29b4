"""Predict images with a checkpoint, or with a run's folder: its best model, or the mean of its folds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cloudrun.imagedata.image_list import ImageList, images_at
from trainer.cross_validation.predict_folds import best_of, is_folds_run, predict_folds
from trainer.errors import TrainerError
from trainer.model.targets import DecisionRule
from trainer.outputs.predictions import Predictions, write_test_predictions
from trainer.training.predicting import DeviceName, predict_with


def predict(path: Path, *, data: Path, out: Path, device: DeviceName = "auto", tta: str | None = None) -> None:
    """Write `out`: a row for each image that `data` names, by the checkpoint `path`.

    Raises TrainerError or FolderProblem where the checkpoint or an image cannot be read, or there are no images.
    """
    write_test_predictions(out, *predict_with(path, images_at(data), device=device, tta=tta))


def predict_run(  # noqa: PLR0913 - each is an option of `predict`
    folder: Path,
    images: ImageList,
    *,
    fold: int | None = None,
    device: DeviceName = "auto",
    tta: str | None = None,
    say: Callable[[str], None],
) -> tuple[Predictions, DecisionRule]:
    """Return the predictions of the run in `folder`, and their rule. `fold`: of that fold alone.

    Raises TrainerError where the run has no best model, or not all its folds have ended.
    """
    if is_folds_run(folder) and fold is None:
        folds = predict_folds(folder, images, device=device, tta=tta, say=say)
        return folds.mean, folds.rule
    path = best_of_run(folder, fold)
    say(f"predicting {len(images.files)} images")
    return predict_with(path, images, device=device, tta=tta)


def best_of_run(folder: Path, fold: int | None) -> Path:
    """Return the best checkpoint of the run in `folder`; of a fold, where it has folds. Raises TrainerError."""
    if fold is not None and not is_folds_run(folder):
        raise TrainerError(f"{folder} has no folds, and fold {fold} was asked for", hint="leave out `--fold`")
    path = folder / "checkpoints" / "best.pt" if fold is None else best_of(folder, fold)
    if not path.is_file():
        raise TrainerError(
            f"there is no {path}: no epoch was validated, or the file was not fetched",
            hint="`cloudrun fetch RUN` brings it; `cloudrun resume RUN` trains on",
        )
    return path
