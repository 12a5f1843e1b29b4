"""Learners that are taught by the folds' out-of-fold predictions, beside the plain average of the runs.

Each is judged as the folds are: taught by the other folds' rows, it predicts those of one fold, in turn. What is
applied to the test images has learned from all rows, and sees them as it saw those: by one fold's model at a time, not
by the mean of the folds' models, which is more often right than any of them; the mean is taken of what it answers.
Source: Wolpert 1992, Stacked generalization, Neural Networks 5(2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.atomic import write_json
from trainer.calibrate import fit_temperature
from trainer.differences import Difference, Metric, choose, compare, table_of, verdict
from trainer.errors import ConfigError
from trainer.feature_heads import DeviceName, Heads, fit_heads
from trainer.fold_runs import FoldRun, read_runs
from trainer.learners import Floats, Ints, Learner, Predict, Rows, check_heads, softmax, versions_of
from trainer.oof import Predictions, rate, write_oof, write_test_predictions
from trainer.targets import Naming

AVERAGE, TEMPERED, ALL = "average", "tempered", "all"
_SMALLEST = 1e-5  # a fold's predictions.csv has six digits: below this, they say nothing of a logarithm


@dataclass(frozen=True)
class Method:
    """A line of the table: probabilities (N, classes) out of fold, and of the test images where there are any."""

    name: str
    out_of_fold: Floats
    test: Floats | None


@dataclass(frozen=True)
class Level:
    """What learners learn from: a row a labelled image, and for each fold a row a test image, by its models."""

    rows: Rows
    truth: Ints
    fold_of: Ints
    tests: tuple[Rows, ...]
    average: Method


def stack(
    folders: Sequence[Path],
    *,
    out: Path,
    learners: Mapping[str, Learner],
    data: Path | None = None,
    metric: Metric = "accuracy",
    device: DeviceName = "auto",
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Write `out`/stacking.json, and oof.csv and predictions.csv (with a test folder) of what `choose` chooses.

    `folders`: runs of `python -m trainer folds`. `data`: their images; then their features are columns, too. The
    content of stacking.json. Raises TrainerError where runs are not whole or do not fit together.
    """
    if data is not None:
        check_heads()
    runs = read_runs(folders)
    _check_out(out, folders)
    heads = [fit_heads(run, data=data, device=device, say=say) for run in runs] if data is not None else []
    level = assemble(runs, heads)
    _say_what(runs, level, say)
    methods = learn(level, learners)
    whole = runs[0].out_of_fold
    rates = {
        one.name: rate(replace(whole, probabilities=torch.from_numpy(one.out_of_fold)), Naming()) for one in methods
    }
    peer = peer_of(methods, metric)
    differences = differences_to(peer, methods, level.truth)
    chosen = choose(differences, peer.name, metric)
    for line in [*table_of(rates, differences, peer.name, metric), verdict(chosen, differences, peer.name, metric)]:
        say(line)
    _write_chosen(out, next(one for one in methods if one.name == chosen), runs[0], say)
    summary = {
        "runs": [str(folder) for folder in folders],
        "images": len(whole.images),
        "folds": runs[0].folds,
        "classes": list(whole.classes),
        "columns": level.rows.columns.shape[1],
        "has_features": data is not None,
        "metric": metric,
        "peer": peer.name,
        "chosen": chosen,
        "methods": {
            name: {**one, "against_peer": asdict(differences[name]) if name in differences else None}
            for name, one in rates.items()
        },
        "versions": versions_of(tuple(learners)),
    }
    write_json(out / "stacking.json", summary)
    return summary


def assemble(runs: Sequence[FoldRun], heads: Sequence[Heads]) -> Level:
    """Columns: the log-probabilities of each run, then those of its heads."""

    def rows(networks: Sequence[Floats], others: Sequence[Floats]) -> Rows:
        columns = np.concatenate([_log(one) for one in [*networks, *others]], axis=1)
        return Rows(columns, _log(np.mean(networks, axis=0)))

    networks = [_floats(run.out_of_fold) for run in runs]
    by_fold = [[_floats(run.tests[fold]) for run in runs] for fold in range(len(runs[0].tests))]
    return Level(
        rows(networks, [one.out_of_fold for one in heads]),
        np.asarray(runs[0].truth.numpy(), dtype=np.int64),
        np.asarray(runs[0].fold_of.numpy(), dtype=np.int64),
        tuple(rows(tests, [one.tests[fold] for one in heads]) for fold, tests in enumerate(by_fold)),
        Method(AVERAGE, _mean(networks), _mean([_mean(tests) for tests in by_fold]) if by_fold else None),
    )


def learn(level: Level, learners: Mapping[str, Learner]) -> list[Method]:
    """The average, the same at its temperature, what each learner says, and with several of them their mean."""
    learned = []
    for name, learner in {TEMPERED: _temper, **learners}.items():
        out_of_fold = judge(learner, level)
        predict = learner(level.rows, level.truth) if level.tests else None
        test = _mean([predict(rows) for rows in level.tests]) if predict else None
        learned.append(Method(name, out_of_fold, test))
    _, *several = learned
    if len(several) > 1:
        tests = [one.test for one in several if one.test is not None]
        learned.append(Method(ALL, _mean([one.out_of_fold for one in several]), _mean(tests) if tests else None))
    return [level.average, *learned]


def judge(learner: Learner, level: Level) -> Floats:
    """Probabilities (N, classes) of each fold's rows, by what was learned from the other folds' rows."""
    answers = np.empty_like(level.rows.start)
    for fold in np.unique(level.fold_of):
        is_held = level.fold_of == fold
        answers[is_held] = learner(level.rows[~is_held], level.truth[~is_held])(level.rows[is_held])
    return answers


def peer_of(methods: Sequence[Method], metric: Metric) -> Method:
    """What is kept unless it is beaten: the average; where the log loss decides, at its temperature."""
    return next(one for one in methods if one.name == (AVERAGE if metric == "accuracy" else TEMPERED))


def differences_to(peer: Method, methods: Sequence[Method], truth: Ints) -> dict[str, Difference]:
    return {one.name: compare(one.out_of_fold, peer.out_of_fold, truth) for one in methods if one.name != peer.name}


def _write_chosen(out: Path, chosen: Method, run: FoldRun, say: Callable[[str], None]) -> None:
    """oof.csv, and predictions.csv where there are test images; else none of an earlier call stays."""
    whole = run.out_of_fold
    write_oof(out / "oof.csv", replace(whole, probabilities=torch.from_numpy(chosen.out_of_fold)), Naming())
    path = out / "predictions.csv"
    if chosen.test is not None:
        predictions = Predictions(whole.classes, run.test_images, torch.from_numpy(chosen.test))
        write_test_predictions(path, predictions, Naming())
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
    """The average at the temperature that fits these rows best: one number, which every learner finds, too."""
    names = tuple(str(index) for index in range(rows.start.shape[1]))
    labels = tuple((names[label],) for label in truth)
    start = Predictions(names, tuple(map(str, range(len(truth)))), torch.from_numpy(softmax(rows.start)), labels)
    temperature = fit_temperature(start, several=False).temperature
    return lambda others: softmax(others.start / temperature)


def _mean(parts: Sequence[Floats]) -> Floats:
    return np.asarray(np.mean(parts, axis=0), dtype=np.float64)


def _log(probabilities: Floats) -> Floats:
    return np.asarray(np.log(probabilities.clip(_SMALLEST, 1.0)), dtype=np.float64)


def _floats(predictions: Predictions) -> Floats:
    return np.asarray(predictions.probabilities.numpy(), dtype=np.float64)
