"""Predict images with the model of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cloudrun.imagedata.image_list import ImageList
from trainer.model.targets import DecisionRule, targets_for
from trainer.outputs.predictions import Predictions
from trainer.session.scores import evaluate
from trainer.session.trained_model import load_trained

DeviceName = Literal["auto", "cuda", "cpu"]


def predict_with(
    path: Path, images: ImageList, *, device: DeviceName = "auto", tta: str | None = None
) -> tuple[Predictions, DecisionRule]:
    """Return the predictions of best.pt or last.pt, and its rule. `tta`: in place of that of the training.

    Raises TrainerError where the checkpoint or the device cannot be used, FolderProblem where an image cannot be read.
    """
    trained = load_trained(path, device=device, tta=tta)
    targets = targets_for(trained.rule, classes=len(trained.classes))
    loader = trained.loader(images.files)
    try:
        scores = evaluate(trained.model, loader, trained.device, targets=targets)
    finally:
        loader.close()
    return Predictions(trained.classes, images.names, scores.probabilities), trained.rule
