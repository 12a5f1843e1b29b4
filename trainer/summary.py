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
from trainer.diagnosis import Finding
from trainer.labels import SEPARATOR
from trainer.scores import Rating, Scores, evaluate
from trainer.session import Session
from trainer.stop import StopFlag
from trainer.targets import Naming
from trainer.timing import Timing


def finish_run(
    session: Session,
    *,
    out: Path,
    best_path: Path,
    best_epoch: int,
    best_accuracy: float,
    best_macro_f1: float | None,
    naming: Naming,
    train_seconds: float,
    images_per_s: float,
    timing: Timing,
    findings: Sequence[Finding],
    stop: StopFlag | None,
    on_batch: Callable[[], None],
) -> dict[str, Any]:
    """Write summary.json, and predictions.csv where there is a test folder; the summary.

    Without `stop` the run was stopped early: it is summed up as it stands, and not scored on test.
    """
    classes = session.dataset.classes
    test: Rating | None = None
    test_files = list(session.dataset.splits.get("test", ()))
    if stop is not None and test_files:
        session.model.load_state_dict(checkpoint.load(best_path)["model"])
        began = time.monotonic()
        scores = evaluate(
            session.model,
            session.evaluation_loader(test_files),
            session.device,
            targets=session.targets,
            stop=stop,
            on_batch=on_batch,
        )
        timing.add_evaluation(time.monotonic() - began, images=len(test_files))
        names = [path.relative_to(session.dataset.folder).as_posix() for path, _ in test_files]
        write_predictions(out / "predictions.csv", names, scores, classes, naming)
        if scores.is_labelled():
            test = scores.rate(naming.thresholds)
    accuracy = best_accuracy if best_epoch else None
    summary: dict[str, Any] = {
        "best_epoch": best_epoch or None,
        "metric_name": "val_accuracy" if naming.thresholds is None else "val_macro_f1",
        "best_metric": accuracy if naming.thresholds is None else best_macro_f1,
        "val_accuracy": accuracy,
        "test_accuracy": test.accuracy if test else None,
        "test_recall": dict(zip(classes, test.recalls, strict=True)) if test else None,
        **(_several(best_macro_f1, naming.thresholds, test, classes) if naming.thresholds is not None else {}),
        "epochs": session.config.epochs,
        "stopped_early": stop is None,
        "classes": list(classes),
        "images": {
            "train": len(session.train_files),
            "val": len(session.val_files),
            "test": len(test_files),
        },
        "findings": [one.as_plain() for one in findings],
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


def _several(
    val_macro_f1: float | None, thresholds: Sequence[float], test: Rating | None, classes: Sequence[str]
) -> dict[str, Any]:
    """What the summary says more where an image may have several classes."""
    f1 = test.f1 if test else None
    return {
        "val_macro_f1": val_macro_f1,
        "test_macro_f1": test.macro_f1 if test else None,
        "test_f1": dict(zip(classes, f1, strict=True)) if f1 else None,
        "thresholds": dict(zip(classes, thresholds, strict=True)),
    }


def write_predictions(
    path: Path, images: Sequence[str], scores: Scores, classes: Sequence[str], naming: Naming
) -> None:
    """A row an image: image, label (the predicted class, or several as `a|b`), confidence, each class's probability.

    The confidence is the probability of the label; of several, of the least certain one; of none, that
    no class is there.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "label", "confidence", *classes])
    named_by_image = naming.named(scores.probabilities).tolist()
    for image, row, flags in zip(images, scores.probabilities.tolist(), named_by_image, strict=True):
        named = [index for index, flag in enumerate(flags) if flag]
        confidence = min(row[index] for index in named) if named else 1 - max(row)
        label = SEPARATOR.join(classes[index] for index in named)
        writer.writerow([image, label, f"{confidence:.6f}", *(f"{value:.6f}" for value in row)])
    with replacing(path) as file:
        file.write(text.getvalue().encode())
