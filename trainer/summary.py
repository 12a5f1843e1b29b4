"""The end of a run: the best model's score on test, predictions.csv and summary.json."""

from __future__ import annotations

import csv
import io
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision

from trainer import checkpoint
from trainer.atomic import replacing, write_json
from trainer.scores import Scores, evaluate
from trainer.session import Session
from trainer.stop import StopFlag
from trainer.timing import Timing


def finish_run(
    session: Session,
    *,
    out: Path,
    best_path: Path,
    best_epoch: int,
    best_accuracy: float,
    train_seconds: float,
    images_per_s: float,
    timing: Timing,
    stop: StopFlag | None,
    on_batch: Callable[[], None],
) -> dict[str, Any]:
    """Write summary.json, and predictions.csv where there is a test folder; the summary.

    Without `stop` the run was stopped early: it is summed up as it stands, and not scored on test.
    """
    classes = session.dataset.classes
    test_accuracy: float | None = None
    test_recall: dict[str, float | None] | None = None
    test_files = list(session.dataset.splits.get("test", ()))
    if stop is not None and test_files:
        session.model.load_state_dict(checkpoint.load(best_path)["model"])
        began = time.monotonic()
        scores = evaluate(
            session.model, session.evaluation_loader(test_files), session.device, stop=stop, on_batch=on_batch
        )
        timing.add_evaluation(time.monotonic() - began, images=len(test_files))
        names = [path.relative_to(session.dataset.folder).as_posix() for path, _ in test_files]
        write_predictions(out / "predictions.csv", names, scores, classes)
        if scores.is_labelled():
            test_accuracy = scores.accuracy
            test_recall = dict(zip(classes, scores.recalls(), strict=True))
    accuracy = best_accuracy if best_epoch else None
    summary: dict[str, Any] = {
        "best_epoch": best_epoch or None,
        "metric_name": "val_accuracy",
        "best_metric": accuracy,
        "val_accuracy": accuracy,
        "test_accuracy": test_accuracy,
        "test_recall": test_recall,
        "epochs": session.config.epochs,
        "stopped_early": stop is None,
        "classes": list(classes),
        "images": {
            "train": len(session.train_files),
            "val": len(session.val_files),
            "test": len(test_files),
        },
        "images_per_s": round(images_per_s, 2),
        "train_seconds": round(train_seconds, 2),
        "evaluation_seconds": round(timing.evaluation_s, 2),
        "evaluated_images": timing.evaluated_images,
        "device": str(session.device.torch_device),
        "gpu": session.device.gpu_name,
        "precision": session.device.precision,
        "batch_size": session.batch_size,
        "micro_batch": session.micro_batch,
        "backbones": list(session.config.backbones),
        "features": session.model.head.in_features,
        "parameters": session.model.parameter_count(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "timm": timm.__version__,
        },
    }
    write_json(out / "summary.json", summary)
    return summary


def write_predictions(path: Path, images: Sequence[str], scores: Scores, classes: Sequence[str]) -> None:
    """A row an image: image, label (the predicted class), confidence, and each class's probability."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "label", "confidence", *classes])
    for image, row in zip(images, scores.probabilities.tolist(), strict=True):
        best = max(range(len(classes)), key=row.__getitem__)
        writer.writerow([image, classes[best], f"{row[best]:.6f}", *(f"{value:.6f}" for value in row)])
    with replacing(path) as file:
        file.write(text.getvalue().encode())
