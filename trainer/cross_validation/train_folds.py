"""Train all k folds one after another, and merge them: each image is judged by the fold that did not train on it."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from cloudrun.imagedata.dataset import Reading, read_dataset
from cloudrun.imagedata.folders import Dataset
from cloudrun.recipe.train_config import TrainConfig
from trainer.atomic import write_json
from trainer.cross_validation.merge import join_metrics, merge_summaries, summary_in
from trainer.distributed.ranks import ALONE, Ranks
from trainer.distributed.stop import StopFlag
from trainer.errors import ConfigError, TrainerError
from trainer.model.targets import DecisionRule, decision_rule, targets_of, tune_thresholds
from trainer.outputs import checkpoint
from trainer.outputs.calibrate import fit_temperature, tempered
from trainer.outputs.predictions import Predictions, rate, read_predictions, write_oof, write_test_predictions
from trainer.outputs.progress import Progress
from trainer.outputs.scoring import Metric, judged_of, metric_of
from trainer.session.autotune_result import AutotuneResult
from trainer.session.build import digest_of
from trainer.training.engine import train


def train_folds(  # noqa: PLR0913 - the arguments of `train`, each by its name
    config: TrainConfig,
    *,
    data: Path,
    labels: Path | Reading | None = None,
    out: Path,
    calibrate: bool = False,
    stop: StopFlag,
    progress: Progress,
    ranks: Ranks = ALONE,
    hours_left: float | None = None,
) -> dict[str, Any]:
    """Train each fold in `out`/fold-I, then write oof.csv, predictions.csv (with a test folder) and summary.json.

    Returns the content of summary.json. A fold that is done is not trained again, and the current one continues from
    its checkpoint. `calibrate`: predictions.csv gets the probabilities at the temperature that is fitted out of fold.
    `ranks`: joined. `hours_left`: of the job's budget, for all folds. Raises as `trainer.training.engine.train` does,
    and ConfigError where `config` has no folds.
    """
    if not config.folds:
        raise ConfigError("the config has no folds: `folds` is 0", hint="write `folds: 5`")
    dataset = read_dataset(data, labels)
    folders = [out / f"fold-{fold}" for fold in range(config.folds)]
    known: AutotuneResult | None = None
    began = time.monotonic()
    for fold, folder in enumerate(folders):
        hours = None if config.train_hours is None else config.train_hours / config.folds
        of_fold = config.model_copy(update={"fold": fold, "train_hours": hours})
        if ranks.from_main(partial(is_done, folder, of_fold, dataset)):
            progress.say(f"fold {fold} of {config.folds} is done")
            continue
        if fold:  # the first fold writes a checkpoint when it is stopped
            stop.raise_if_set()
        progress.say(f"fold {fold} of {config.folds}:")
        progress.is_part(epochs_before=fold * config.epochs, epochs_in_all=config.folds * config.epochs)
        after = config.folds - fold - 1
        try:
            share = None  # of the hours that are left, the same for each fold that is left
            if hours_left is not None:
                share = max(0.0, hours_left - (time.monotonic() - began) / 3600) / (config.folds - fold)
            summary = train(
                of_fold, data=data, labels=labels, out=folder, stop=stop, progress=progress, ranks=ranks,
                runs_after=after, known=known, hours_left=share,
            )  # fmt: skip
            measured = summary["autotune"]
            known = AutotuneResult.from_plain(measured).for_next_fold() if measured else None
        finally:
            gc.collect()  # a compiled model and its call refer to each other, and the next fold needs their memory
            if ranks.is_main:
                join_metrics(folders[: fold + 1], epochs=config.epochs, out=out)
    metric = metric_of(config, dataset.classes, has_several=dataset.label_sets is not None)
    summary = ranks.from_main(partial(merge_folds, folders, dataset, out=out, calibrate=calibrate, metric=metric))
    whole = summary["out_of_fold"]
    progress.say(
        f"out of fold: accuracy {whole['accuracy']:.4f}, macro F1 {_shown(whole['macro_f1'])}, "
        f"log loss {whole['log_loss']:.4f}, ROC AUC {_shown(whole['roc_auc'])}"
    )
    fitted = summary["calibration"]
    progress.say(
        f"temperature {fitted['temperature']:.3f}: log loss {fitted['log_loss_before']:.4f} before, "
        f"{fitted['log_loss_after']:.4f} after" + ("" if calibrate else "; not applied without `--calibrate`")
    )
    return summary


def is_done(folder: Path, config: TrainConfig, dataset: Dataset) -> bool:
    """Return whether `config` was trained to its end in `folder`, on these images.

    Raises ConfigError where another config was.
    """
    last_path, summary_path = folder / "checkpoints" / "last.pt", folder / "summary.json"
    if not (last_path.exists() and summary_path.exists() and (folder / "oof.csv").exists()):
        return False
    saved = checkpoint.load(last_path)
    checkpoint.check_config(saved["config"], config, last_path)
    # Fewer epochs than asked for are all, where they were fitted to its hours, or nothing got better.
    is_asked = saved.get("asked_epochs", config.epochs) == config.epochs
    stopped_early = json.loads(summary_path.read_text())["stopped_early"]
    has_ended = saved["epoch"] > saved["config"]["epochs"] and not stopped_early
    return bool(is_asked and has_ended and saved["data_digest"] == digest_of(dataset, config))


def merge_folds(
    folders: Sequence[Path],
    dataset: Dataset,
    *,
    out: Path,
    calibrate: bool = False,
    metric: Metric | None = None,
) -> dict[str, Any]:
    """Write what the folds that are done in `folders` say together; the content of summary.json.

    `metric`: of the competition; None: accuracy, or macro F1 where an image may have several classes.

    Where an image may have several classes, their thresholds are tuned on all out-of-fold predictions at once.
    """
    parts = [read_predictions(folder / "oof.csv") for folder in folders]
    together = join_out_of_fold(parts)
    targets = targets_of(dataset)
    metric = metric or Metric("macro_f1" if targets.has_several else "accuracy", has_several=targets.has_several)
    limits = None
    if targets.has_several:
        limits = tune_thresholds(together.probabilities, together.wanted, beta=metric.threshold_beta)
    rule = decision_rule(targets, limits)
    fitted = fit_temperature(together, several=targets.has_several)
    write_oof(out / "oof.csv", together, rule)
    summary: dict[str, Any] = {
        "folds": len(folders),
        "per_fold": [{"fold": fold, **_short(part, rule)} for fold, part in enumerate(parts)],
        "out_of_fold": rate(together, rule) | {metric.name: metric.of(judged_of(together, rule))},
        "classes": list(together.classes),
        "thresholds": None if limits is None else dict(zip(together.classes, limits, strict=True)),
        "calibration": {**asdict(fitted), "is_applied": calibrate},
        "test": None,
    }
    if "test" in dataset.splits:
        tests = [read_predictions(folder / "predictions.csv") for folder in folders]
        if calibrate:
            tests = [_tempered(test, fitted.temperature, several=targets.has_several) for test in tests]
            if limits is not None:  # thresholds move with the probabilities
                limits = tempered(torch.tensor(limits), fitted.temperature, several=True).tolist()
                rule = decision_rule(targets, limits)
        mean = mean_predictions(tests)
        write_test_predictions(out / "predictions.csv", mean, rule)
        summary["test"] = _rate_test(mean, dataset, rule)
    whole = [summary_in(folder) for folder in folders]
    join_metrics(folders, epochs=whole[0].get("asked_epochs", whole[0]["epochs"]), out=out)
    summary |= merge_summaries(whole, summary, metric=metric.name)
    write_json(out / "summary.json", summary)
    return summary


def join_out_of_fold(parts: Sequence[Predictions]) -> Predictions:
    """The folds' own images together, sorted by path. Raises TrainerError where an image is in two folds."""
    rows = sorted(
        (image, names, row)
        for part in parts
        for image, names, row in zip(part.images, part.truth or (), part.probabilities.tolist(), strict=True)
    )
    images = tuple(image for image, _, _ in rows)
    twice = [image for image, after in pairwise(images) if image == after]
    if twice or len({part.classes for part in parts}) > 1:
        what = f"`{twice[0]}` is in two folds" if twice else "their classes differ"
        raise TrainerError(f"the folds do not fit together: {what}", hint="train them into an empty `--out` folder")
    probabilities = torch.tensor([row for _, _, row in rows], dtype=torch.float64)
    return Predictions(parts[0].classes, images, probabilities, tuple(names for _, names, _ in rows))


def mean_predictions(parts: Sequence[Predictions]) -> Predictions:
    """The mean of the probabilities that several models give the same images. Raises TrainerError where they differ."""
    first = parts[0]
    for part in parts[1:]:
        if part.images != first.images or part.classes != first.classes:
            raise TrainerError(
                f"predictions of {len(first.images)} and of {len(part.images)} images are not of the same images",
                hint="remove the folds' predictions.csv, and run the same command again",
            )
    mean = torch.stack([part.probabilities for part in parts]).mean(0)
    return Predictions(first.classes, first.images, mean, first.truth)


def _tempered(part: Predictions, temperature: float, *, several: bool) -> Predictions:
    return replace(part, probabilities=tempered(part.probabilities, temperature, several=several))


def _short(part: Predictions, rule: DecisionRule) -> dict[str, Any]:
    return {key: value for key, value in rate(part, rule).items() if key != "per_class"}


def _rate_test(mean: Predictions, dataset: Dataset, rule: DecisionRule) -> dict[str, Any] | None:
    """None where the test images have no labels."""
    if not dataset.test_is_labelled:
        return None
    truth = {
        path.relative_to(dataset.folder).as_posix(): tuple(dataset.classes[at] for at in dataset.classes_of(label))
        for path, label in dataset.splits["test"]
    }
    return rate(Predictions(mean.classes, mean.images, mean.probabilities, tuple(truth[i] for i in mean.images)), rule)


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
