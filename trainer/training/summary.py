"""Finish a run: score the best model, write predictions.csv and summary.json."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision

from cloudrun.recipe.evaluations import predicts_val_again
from cloudrun.recipe.views import has_views, views_of, work_of_views
from trainer.atomic import write_json
from trainer.distributed.stop import StopFlag
from trainer.model.targets import DecisionRule, decision_rule
from trainer.outputs import checkpoint
from trainer.outputs.predictions import Predictions, write_oof, write_test_predictions, write_val_predictions
from trainer.outputs.scoring import class_report
from trainer.outputs.thumbnails import write_thumbnails
from trainer.session.grad_cam import GradCam
from trainer.session.scores import Rating, Scores, evaluate
from trainer.session.setup import TrainingSetup
from trainer.session.state import TrainState

OnBatch = Callable[[], None]
THUMBNAILS = "thumbnails.jsonl"
_NO_REPORT: dict[str, Any] = {"per_class": None, "confusion": None}


@dataclass(frozen=True, slots=True)
class Judgement:
    """How right the labelled test images are; `report`: by class."""

    rating: Rating
    report: dict[str, Any]


def finish_run(state: TrainState, *, stop: StopFlag, on_batch: OnBatch) -> dict[str, Any]:
    """Score the best model on its fold and on the test folder, where there are, and return summary.json's content.

    Raises StoppedEarly between two batches once `stop` is set.
    """
    setup = state.setup
    rule = decision_rule(setup.targets, state.best.thresholds)
    test_files = setup.dataset.splits.get("test", ())
    setup.stop_loading()  # each loader has a process a core, and buffers of its own
    setup.model.views = views_of(setup.config)
    best = checkpoint.load(state.best_path) if setup.ranks.is_main else {}
    val, with_views = None, None
    if test_files or predicts_val_again(setup.config):
        setup.model.load_state_dict(setup.ranks.from_main(lambda: best["model"]))
    if predicts_val_again(setup.config):
        judged = _predict_val(state, rule, stop=stop, on_batch=on_batch)
        val, with_views = judged.report, judged.rating.metric
    elif "val" in best:
        setup.model.load_state_dict(best["model"])  # of the main process alone, for the pictures
        saved = best["val"]
        scores = Scores(saved["logits"], saved["labels"], setup.targets.on_cpu())
        val = _write_val(state, rule, scores, saved["images"])
    test = _predict_test(state, rule, stop=stop, on_batch=on_batch) if test_files else None
    return _write_summary(state, rule, test, val=val, with_views=with_views, stopped_early=False)


def finish_stopped_run(state: TrainState) -> dict[str, Any]:
    """Return summary.json's content of a run that was stopped early; nothing is scored."""
    return _write_summary(state, decision_rule(state.setup.targets, state.best.thresholds), None, stopped_early=True)


def write_predictions(
    path: Path, images: Sequence[str], scores: Scores, classes: Sequence[str], rule: DecisionRule
) -> None:
    """Write a row an image: image, label (a class, or several as `a|b`), confidence, the probability of each class."""
    write_test_predictions(path, Predictions(tuple(classes), tuple(images), scores.probabilities), rule)


def _write_val(state: TrainState, rule: DecisionRule, scores: Scores, images: Sequence[str]) -> dict[str, Any]:
    """Write predictions-val.csv, or oof.csv with folds, and return the report by class.

    `images`: relative to the data folder, in the order of `scores`.
    """
    setup = state.setup
    judged, classes = scores.judged(rule), setup.dataset.classes
    truth = [tuple(classes[index] for index in setup.dataset.classes_of(label)) for label in scores.labels.tolist()]
    rows = Predictions(classes, tuple(images), judged.probabilities, tuple(truth))
    if setup.ranks.is_main:
        if setup.config.folds:
            write_oof(state.out / "oof.csv", rows, rule)
        else:
            write_val_predictions(state.out / "predictions-val.csv", rows, rule)
        write_thumbnails(state.out / THUMBNAILS, setup.dataset.folder, rows, rule, explain=GradCam(setup))
    return class_report(judged, classes, has_several=setup.targets.has_several)


def _predict_val(state: TrainState, rule: DecisionRule, *, stop: StopFlag, on_batch: OnBatch) -> Judgement:
    """Predict the images that validate as test images are predicted, and write them."""
    setup = state.setup
    loader = setup.evaluation_loader(setup.val_files, unreadable=setup.unreadable)
    began = time.monotonic()
    scores = evaluate(
        setup.model, loader, setup.device, targets=setup.targets, stop=stop, on_batch=on_batch, ranks=setup.ranks
    )
    setup.exchange_unreadable()
    state.timing.add_evaluation(time.monotonic() - began, images=len(scores.labels) * work_of_views(setup.config))
    scores = replace(scores, targets=setup.targets.on_cpu())
    report = _write_val(state, rule, scores, setup.val_names())
    return Judgement(scores.rate(rule.thresholds, metric=setup.metric), report)


def _predict_test(state: TrainState, rule: DecisionRule, *, stop: StopFlag, on_batch: OnBatch) -> Judgement | None:
    """Write predictions.csv; return how right the test images are, None where they have no labels."""
    setup = state.setup
    setup.stop_loading()
    files = list(setup.dataset.splits["test"])
    began = time.monotonic()
    scores = evaluate(
        setup.model,
        setup.evaluation_loader(files),
        setup.device,
        targets=setup.targets,
        stop=stop,
        on_batch=on_batch,
        ranks=setup.ranks,
    )
    state.timing.add_evaluation(time.monotonic() - began, images=len(files) * work_of_views(setup.config))
    names = [path.relative_to(setup.dataset.folder).as_posix() for path, _ in files]
    if setup.ranks.is_main:
        write_predictions(state.out / "predictions.csv", names, scores, setup.dataset.classes, rule)
    if not scores.is_labelled():
        return None
    report = class_report(scores.judged(rule), setup.dataset.classes, has_several=setup.targets.has_several)
    return Judgement(scores.rate(rule.thresholds, metric=setup.metric), report)


def _write_summary(  # noqa: PLR0913 - the parts of a summary, each by its name
    state: TrainState,
    rule: DecisionRule,
    test: Judgement | None,
    *,
    val: dict[str, Any] | None = None,
    with_views: float | None = None,
    stopped_early: bool,
) -> dict[str, Any]:
    summary = {
        **_ratings(state, rule, test.rating if test else None),
        **{f"val_{key}": value for key, value in (val or _NO_REPORT).items()},
        **{f"test_{key}": value for key, value in (test.report if test else _NO_REPORT).items()},
        "epochs": state.setup.config.epochs,
        "asked_epochs": state.asked_epochs,
        "stopped_early": stopped_early,
        **_data(state.setup),
        "weights": state.choice,
        "views": len(views_of(state.setup.config)),
        "val_metric_with_views": with_views if has_views(state.setup.config) else None,
        "findings": [finding.as_plain() for finding in state.findings],
        **_speeds(state),
        **_hardware_and_model(state.setup),
        "autotune": state.setup.autotune.as_plain() if state.setup.autotune else None,
    }
    if state.setup.ranks.is_main:
        write_json(state.out / "summary.json", summary)
    return summary


def _ratings(state: TrainState, rule: DecisionRule, test: Rating | None) -> dict[str, Any]:
    best, classes = state.best, state.setup.dataset.classes
    accuracy = best.accuracy if best.epoch else None
    ratings = {
        "best_epoch": best.epoch or None,
        "metric_name": f"val_{state.setup.metric.name}",
        "best_metric": best.metric if best.epoch else None,
        "val_accuracy": accuracy,
        "test_metric": test.metric if test else None,
        "test_accuracy": test.accuracy if test else None,
        "test_recall": dict(zip(classes, test.recalls, strict=True)) if test else None,
    }
    if rule.thresholds is None:
        return ratings
    f1 = test.f1 if test else None
    return {
        **ratings,
        "val_macro_f1": best.macro_f1,
        "test_macro_f1": test.macro_f1 if test else None,
        "test_f1": dict(zip(classes, f1, strict=True)) if f1 else None,
        "thresholds": dict(zip(classes, rule.thresholds, strict=True)),
    }


def _data(setup: TrainingSetup) -> dict[str, Any]:
    return {
        "classes": list(setup.dataset.classes),
        "images": {
            "train": len(setup.train_files),
            "val": len(setup.val_files),
            "test": len(setup.dataset.splits.get("test", ())),
        },
        "soft_labels": setup.soft.as_plain() if setup.soft else None,
        "unreadable_images": setup.unreadable_names(),
        "unused_files": [one.as_plain() for one in setup.dataset.unused],
        "label_columns": None if setup.dataset.columns is None else setup.dataset.columns.as_plain(),
    }


def _speeds(state: TrainState) -> dict[str, Any]:
    autotune = state.setup.autotune
    return {
        "images_per_s": round(state.trained_images / state.trained_s if state.trained_s else 0.0, 2),
        "train_seconds": round(state.trained_s, 2),
        "compile_seconds": round(autotune.compile_s if autotune else 0.0, 2),
        "evaluation_seconds": round(state.timing.evaluation_s, 2),
        "evaluated_images": round(state.timing.evaluated_images),
    }


def _hardware_and_model(setup: TrainingSetup) -> dict[str, Any]:
    return {
        "device": str(setup.device.torch_device),
        "gpu": setup.device.gpu_name,
        "processes": setup.ranks.world,
        "precision": setup.device.precision,
        "batch_size": setup.batch_size,
        "micro_batch": setup.micro_batch,
        "memory_formats": setup.model.format_names(),
        "is_compiled": setup.model.compiled is not None,
        "backbones": list(setup.config.backbones),
        "features": setup.model.head.in_features,
        "parameters": setup.model.parameter_count(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "timm": timm.__version__,
        },
    }
