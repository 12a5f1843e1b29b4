"""The end of a run: the best model's score on test, predictions.csv and summary.json."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision

from trainer.atomic import write_json
from trainer.distributed.stop import StopFlag
from trainer.model.targets import Naming
from trainer.outputs import checkpoint
from trainer.outputs.diagnosis import Finding
from trainer.outputs.predictions import Predictions, write_oof, write_test_predictions
from trainer.outputs.timing import Timing
from trainer.session.scores import Rating, Scores, evaluate
from trainer.session.setup import Session


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
    ranks = session.ranks
    if stop is not None and (test_files or session.config.folds):
        session.model.load_state_dict(ranks.from_main(lambda: checkpoint.load(best_path)["model"]))
    if stop is not None and session.config.folds:
        _predict_fold(session, out, naming, stop=stop, on_batch=on_batch)
    if stop is not None and test_files:
        began = time.monotonic()
        scores = evaluate(
            session.model,
            session.evaluation_loader(test_files),
            session.device,
            targets=session.targets,
            stop=stop,
            on_batch=on_batch,
            ranks=ranks,
        )
        timing.add_evaluation(time.monotonic() - began, images=len(test_files))
        names = [path.relative_to(session.dataset.folder).as_posix() for path, _ in test_files]
        if ranks.is_main:
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
        "unreadable_images": session.unreadable_names(),
        "findings": [one.as_plain() for one in findings],
        "images_per_s": round(images_per_s, 2),
        "train_seconds": round(train_seconds, 2),
        "compile_seconds": round(session.tuned.compile_s if session.tuned else 0.0, 2),
        "evaluation_seconds": round(timing.evaluation_s, 2),
        "evaluated_images": timing.evaluated_images,
        "device": str(session.device.torch_device),
        "gpu": session.device.gpu_name,
        "processes": ranks.world,
        "precision": session.device.precision,
        "batch_size": session.batch_size,
        "micro_batch": session.micro_batch,
        "memory_formats": session.model.format_names(),
        "is_compiled": session.model.compiled is not None,
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
    if ranks.is_main:
        write_json(out / "summary.json", summary)
    return summary


def _predict_fold(session: Session, out: Path, naming: Naming, *, stop: StopFlag, on_batch: Callable[[], None]) -> None:
    """oof.csv: what the best model says of the fold that it was not trained on."""
    loader = session.evaluation_loader(session.val_files, unreadable=session.unreadable)
    scores = evaluate(
        session.model,
        loader,
        session.device,
        targets=session.targets,
        stop=stop,
        on_batch=on_batch,
        ranks=session.ranks,
    )
    session.share_unreadable()
    files = [file for file in session.val_files if file[0] not in session.unreadable]
    classes = session.dataset.classes
    rows = Predictions(
        classes=classes,
        images=tuple(path.relative_to(session.dataset.folder).as_posix() for path, _ in files),
        probabilities=session.targets.probabilities(scores.logits.double()),
        truth=tuple(tuple(classes[index] for index in session.dataset.classes_of(label)) for _, label in files),
    )
    if session.ranks.is_main:
        write_oof(out / "oof.csv", rows, naming)


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
    """A row an image: image, label (the predicted class, or several as `a|b`), confidence, each class's probability."""
    write_test_predictions(path, Predictions(tuple(classes), tuple(images), scores.probabilities), naming)
