"""Predict a folder of images with a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cloudrun.imagedata.folders import FolderProblem, list_images
from trainer.model.targets import targets_for
from trainer.session.scores import evaluate
from trainer.session.trained_model import load_trained
from trainer.training.summary import write_predictions


def predict(path: Path, *, data: Path, out: Path, device: Literal["auto", "cuda", "cpu"] = "auto") -> None:
    """Write `out`: a row for each image of `data`/test, or of `data` where it has no test folder.

    Raises TrainerError where the checkpoint or an image cannot be read, or there are no images.
    """
    folder = data / "test" if (data / "test").is_dir() else data
    images = list_images(folder)
    if not images:
        raise FolderProblem(f"there are no images in {folder}", hint="`--data` takes a folder of images")
    trained = load_trained(path, device=device)
    targets = targets_for(trained.rule, classes=len(trained.classes))
    scores = evaluate(trained.model, trained.loader(images), trained.device, targets=targets)
    names = [image.relative_to(data).as_posix() for image in images]
    write_predictions(out, names, scores, trained.classes, trained.rule)
