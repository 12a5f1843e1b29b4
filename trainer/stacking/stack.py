"""Fit learners to out-of-fold predictions, and compare them with the plain average of the runs.

Each learner is judged as the folds are: fitted to the rows of the other folds, it predicts the rows of one fold, in
turn. The learner of the test images is fitted to all rows. It gets predictions of one fold's model at a time, as in its
rows, not the mean of the folds' models, which is more often right than any of them; then its answers are averaged.
Source: Wolpert 1992, Stacked generalization, Neural Networks 5(2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cloudrun.recipe.train_config import MetricName, TrainConfig
from trainer.atomic import write_json
from trainer.errors import ConfigError
from trainer.model.targets import DecisionRule, tune_thresholds
from trainer.outputs.calibrate import fit_temperature
from trainer.outputs.predictions import Predictions, rate, write_oof, write_test_predictions
from trainer.outputs.scoring import Metric, metric_of
from trainer.stacking.differences import Answer, choice_text, choose, differences_to, table_of
from trainer.stacking.feature_heads import DeviceName, Heads, fit_heads
from trainer.stacking.fold_runs import FoldRun, read_runs
from trainer.stacking.learners import (
    Floats,
    Ints,
    Learner,
    Predict,
    Rows,
    check_heads,
    class_by_class,
    sigmoid,
    softmax,
    versions_of,
)

AVERAGE, TEMPERED, ALL = "average", "tempered", "all"
_SMALLEST = 1e-5  # predictions.csv of a fold has six digits: smaller probabilities have no meaningful logarithm


@dataclass(frozen=True)
class Method:
    """A line of the table: probabilities (N, classes) out of fold, and of the test images where there are any."""

    name: str
    out_of_fold: Floats
    test: Floats | None


@dataclass(frozen=True)
class Level:
    """The rows that learners learn from: one for each labelled image, and for each fold those of the test images.

    `truth`: classes (N,); where an image may have several (N, classes) of 0 and 1.
    """

    rows: Rows
    truth: Ints
    fold_of: Ints
    tests: tuple[Rows, ...]
    average: Method

    @property
    def has_several(self) -> bool:
        return self.truth.ndim == 2


def stack(  # noqa: PLR0913 - each is an option of `stack`
    folders: Sequence[Path],
    *,
    out: Path,
    learners: Mapping[str, Learner],
    data: Path | None = None,
    metric: MetricName = "accuracy",
    metric_beta: float = 2.0,
    metric_k: int = 5,
    device: DeviceName = "auto",
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Write `out`/stacking.json, and oof.csv and predictions.csv (with a test folder) of the chosen method.

    `folders`: runs of `python -m trainer folds`. `data`: their images; features then are columns, too. Returns the
    content of stacking.json. Raises TrainerError where runs are not complete or do not fit together.
    """
    if data is not None:
        check_heads()
    runs = read_runs(folders)
    _check_out(out, folders)
    heads = [fit_heads(run, data=data, device=device, say=say) for run in runs] if data is not None else []
    level = build_level(runs, heads)
    _say_what(runs, level, say)
    methods = learn(level, learners)
    judging = _judging(runs[0], metric, beta=metric_beta, k=metric_k)
    answers = answers_of(methods, runs[0], beta=judging.threshold_beta)
    rates = {name: rate(answer.predictions, answer.rule) for name, answer in answers.items()}
    peer = AVERAGE if metric != "log_loss" else TEMPERED
    differences = differences_to(peer, answers, judging)
    chosen = choose(differences, peer, metric)
    for line in [*table_of(rates, differences, peer, metric), choice_text(chosen, differences, peer, metric)]:
        say(line)
    test = next(method.test for method in methods if method.name == chosen)
    _write_chosen(out, answers[chosen], test, runs[0].test_images, say)
    classes, limits = runs[0].out_of_fold.classes, answers[chosen].rule.thresholds
    summary = {
        "runs": [str(folder) for folder in folders],
        "images": len(runs[0].out_of_fold.images),
        "folds": runs[0].folds,
        "classes": list(classes),
        "thresholds": None if limits is None else dict(zip(classes, limits, strict=True)),
        "columns": level.rows.columns.shape[1],
        "has_features": data is not None,
        "metric": metric,
        "peer": peer,
        "chosen": chosen,
        "methods": {
            name: {**rating, "against_peer": asdict(differences[name]) if name in differences else None}
            for name, rating in rates.items()
        },
        "versions": versions_of(tuple(learners)),
    }
    write_json(out / "stacking.json", summary)
    return summary


def build_level(runs: Sequence[FoldRun], heads: Sequence[Heads]) -> Level:
    """Make columns of the log-probabilities of each run, then of its heads; log-odds with several classes an image."""
    scores = _log_odds if runs[0].has_several else _log

    def rows(networks: Sequence[Floats], others: Sequence[Floats]) -> Rows:
        columns = np.concatenate([scores(part) for part in [*networks, *others]], axis=1)
        return Rows(columns, scores(_mean(networks)))

    networks = [_floats(run.out_of_fold) for run in runs]
    by_fold = [[_floats(run.tests[fold]) for run in runs] for fold in range(len(runs[0].tests))]
    return Level(
        rows(networks, [head.out_of_fold for head in heads]),
        np.asarray(runs[0].truth.numpy(), dtype=np.int64),
        np.asarray(runs[0].fold_of.numpy(), dtype=np.int64),
        tuple(rows(tests, [head.tests[fold] for head in heads]) for fold, tests in enumerate(by_fold)),
        Method(AVERAGE, _mean(networks), _mean([_mean(tests) for tests in by_fold]) if by_fold else None),
    )


def learn(level: Level, learners: Mapping[str, Learner]) -> list[Method]:
    """Return the average, the same at its temperature, the predictions of each learner, and their mean."""
    learned = []
    for name, learner in {TEMPERED: _temper, **learners}.items():
        if level.has_several and name != TEMPERED:
            learner = class_by_class(learner)
        out_of_fold = judge(learner, level)
        predict = learner(level.rows, level.truth) if level.tests else None
        test = _mean([predict(rows) for rows in level.tests]) if predict else None
        learned.append(Method(name, out_of_fold, test))
    _, *several = learned
    if len(several) > 1:
        tests = [method.test for method in several if method.test is not None]
        learned.append(Method(ALL, _mean([method.out_of_fold for method in several]), _mean(tests) if tests else None))
    return [level.average, *learned]


def judge(learner: Learner, level: Level) -> Floats:
    """Return probabilities (N, classes) of each fold's rows, by a learner fitted to the rows of the other folds."""
    answers = np.empty_like(level.rows.start)
    for fold in np.unique(level.fold_of):
        is_held = level.fold_of == fold
        answers[is_held] = learner(level.rows[~is_held], level.truth[~is_held])(level.rows[is_held])
    return answers


def answers_of(methods: Sequence[Method], run: FoldRun, *, beta: float = 1.0) -> dict[str, Answer]:
    """Return out-of-fold answers by name. With several classes an image each method gets its own best thresholds."""
    answers = {}
    for method in methods:
        predictions = replace(run.out_of_fold, probabilities=torch.from_numpy(method.out_of_fold))
        rule = DecisionRule()
        if run.has_several:
            limits = tune_thresholds(predictions.probabilities, predictions.wanted, beta=beta)
            rule = DecisionRule(tuple(limits), allows_none=run.allows_none)
        answers[method.name] = Answer(predictions, rule)
    return answers


def _judging(run: FoldRun, metric: MetricName, *, beta: float, k: int) -> Metric:
    """Return the metric for these runs. Raises ConfigError where it is not defined for several classes an image."""
    config = TrainConfig(metric=metric, metric_beta=beta, metric_k=k)
    return metric_of(config, run.out_of_fold.classes, has_several=run.has_several)


def _write_chosen(
    out: Path, chosen: Answer, test: Floats | None, images: tuple[str, ...], say: Callable[[str], None]
) -> None:
    """Write oof.csv, and predictions.csv where there are test images; one of an earlier call is removed."""
    write_oof(out / "oof.csv", chosen.predictions, chosen.rule)
    path = out / "predictions.csv"
    if test is not None:
        predictions = Predictions(chosen.predictions.classes, images, torch.from_numpy(test))
        write_test_predictions(path, predictions, chosen.rule)
        return
    if (out / "stacking.json").exists():
        path.unlink(missing_ok=True)
    say("the runs have no test images: there is no predictions.csv")


def _say_what(runs: Sequence[FoldRun], level: Level, say: Callable[[str], None]) -> None:
    images, columns = level.rows.columns.shape
    say(f"{len(runs)} run(s), {runs[0].folds} folds, {images} images, {columns} columns to learn from")
    for run in runs:
        if run.is_calibrated:
            say(f"{run.folder} was calibrated: its folds' predictions are taken as they were before that")


def _check_out(out: Path, folders: Sequence[Path]) -> None:
    for folder in folders:
        if out.resolve() == folder.resolve():
            raise ConfigError(f"`--out` is {folder}, whose oof.csv would be lost", hint="name a folder of its own")


def _temper(rows: Rows, truth: Ints) -> Predict:
    """Return the average at the temperature that fits these rows best.

    It is a single number, which every learner can find, too.
    """
    has_several = truth.ndim == 2
    to_probabilities = sigmoid if has_several else softmax
    names = tuple(str(index) for index in range(rows.start.shape[1]))
    sets = (np.flatnonzero(row) for row in truth) if has_several else ([label] for label in truth)
    labels = tuple(tuple(names[index] for index in indices) for indices in sets)
    start = Predictions(
        names, tuple(map(str, range(len(truth)))), torch.from_numpy(to_probabilities(rows.start)), labels
    )
    temperature = fit_temperature(start, several=has_several).temperature
    return lambda others: to_probabilities(others.start / temperature)


def _mean(parts: Sequence[Floats]) -> Floats:
    return np.asarray(np.mean(parts, axis=0), dtype=np.float64)


def _log(probabilities: Floats) -> Floats:
    return np.asarray(np.log(probabilities.clip(_SMALLEST, 1.0)), dtype=np.float64)


def _log_odds(probabilities: Floats) -> Floats:
    safe = probabilities.clip(_SMALLEST, 1 - _SMALLEST)
    return np.asarray(np.log(safe) - np.log1p(-safe), dtype=np.float64)


def _floats(predictions: Predictions) -> Floats:
    return np.asarray(predictions.probabilities.numpy(), dtype=np.float64)
