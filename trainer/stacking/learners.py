"""Learn from predictions: four learners of three kinds, each behind one call.

Their libraries are an extra and take seconds to import, so that each is imported where it is used. One thread and fixed
seeds give the same bytes for the same rows. Settings suit hundreds to tens of thousands of rows and few columns: small
trees, and few enough that they do not learn the rows by heart. Trees start at the average and correct it: from scratch
they would need many steps to approximate its slope.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.errors import ConfigError, TrainerError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """A row for each image: `columns` (N, any), and `start` (N, classes), from which trees start.

    `start`: log-probabilities, or log-odds where an image may have several classes.
    """

    columns: Floats
    start: Floats

    def __getitem__(self, chosen: Mask) -> Rows:
        return Rows(self.columns[chosen], self.start[chosen])


Predict = Callable[[Rows], Floats]
"""Return probabilities (N, classes) of rows."""
Learner = Callable[[Rows, Ints], Predict]
"""Fit rows and their classes (N,), all of which occur; return the fitted model."""

_INSTALL = "`pip install 'cloudrun-gpu[stacking]'`"
_SEED = 0
_TREES, _DEPTH, _RATE = 50, 2, 0.05
_STRENGTH = 0.1  # scikit-learn's C: smaller is more regularised
_HEAD_STRENGTH = 0.01  # stronger: thousands of features, on which the network already separates its training images


def open_learners(names: Sequence[str]) -> Mapping[str, Learner]:
    """Return the learners `names`, in this order.

    Raises ConfigError at an unknown name, TrainerError without its library.
    """
    unknown = [name for name in names if name not in LEARNERS]
    if unknown or not names or len(set(names)) < len(names):
        what = f"`{unknown[0]}` is not a learner" if unknown else "`--learners` names none, or one of them twice"
        raise ConfigError(what, hint=f"`--learners {','.join(LEARNERS)}`, or some of them")
    missing = {name: problem for name in names if (problem := _problem_with(LEARNERS[name][0]))}
    if missing:
        others = ",".join(name for name in names if name not in missing)
        raise TrainerError(
            f"{' and '.join(f'`{name}`' for name in missing)} cannot be used: {next(iter(missing.values()))}",
            hint=_INSTALL + (f", or do without: `--learners {others}`" if others else ""),
        )
    return {name: LEARNERS[name][1] for name in names}


def check_heads() -> None:
    """Raise TrainerError where the library that `fit_head` needs is missing."""
    problem = _problem_with("sklearn")
    if problem:
        raise TrainerError(f"features cannot be learned from: {problem}", hint=f"{_INSTALL}, or leave out `--features`")


def _problem_with(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except (ImportError, OSError) as err:  # OSError: the library is installed, but the system's libgomp is not
        return str(err).partition("\n")[0]
    return None


def versions_of(names: Sequence[str]) -> dict[str, str]:
    return {LEARNERS[name][0]: str(importlib.import_module(LEARNERS[name][0]).__version__) for name in names}


def fit_head(features: NDArray[np.float32], truth: Ints) -> Callable[[NDArray[np.float32]], Floats]:
    """Fit a logistic regression on a network's features (N, F), each scaled to mean 0 and deviation 1.

    `truth`: classes (N,), or (N, classes) of 0 and 1: then a regression for each class.
    """
    if truth.ndim == 1:
        return _fit_head(features, truth)
    heads = [_fit_head(features, has) if _teaches(has) else _always(float(has[0])) for has in truth.T]
    return lambda others: np.stack([head(others)[:, 1] for head in heads], axis=1)


def _fit_head(features: NDArray[np.float32], truth: Ints) -> Callable[[NDArray[np.float32]], Floats]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=_HEAD_STRENGTH, max_iter=10_000))
    model.fit(features, truth)
    return lambda others: np.asarray(model.predict_proba(others), dtype=np.float64)


def class_by_class(learner: Learner) -> Learner:
    """Return a learner for images with several classes: `learner` learns each class alone, yes or no, from all columns.

    The classes are (N, classes) of 0 and 1. A class that every row has, or none, keeps its start.
    """

    def learn(rows: Rows, truth: Ints) -> Predict:
        predicts = [
            learner(_of_class(rows, at), has) if _teaches(has) else _as_it_starts for at, has in enumerate(truth.T)
        ]
        return lambda others: np.stack(
            [predict(_of_class(others, at))[:, 1] for at, predict in enumerate(predicts)], axis=1
        )

    return learn


def _teaches(has: Ints) -> bool:
    """Return whether there are images (N,) with the class and without it."""
    return bool(has.min() < has.max())


def _as_it_starts(rows: Rows) -> Floats:
    return softmax(rows.start)


def _always(yes: float) -> Callable[[NDArray[np.float32]], Floats]:
    return lambda others: np.tile([1 - yes, yes], (len(others), 1))


def _of_class(rows: Rows, at: int) -> Rows:
    """Return the same columns with the log-probabilities of no and yes."""
    odds = rows.start[:, at]
    return Rows(rows.columns, np.stack([-np.logaddexp(0, odds), -np.logaddexp(0, -odds)], axis=1))


def _logistic(rows: Rows, truth: Ints) -> Predict:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=_STRENGTH, max_iter=10_000).fit(rows.columns, truth)
    return lambda others: np.asarray(model.predict_proba(others.columns), dtype=np.float64)


def _lightgbm(rows: Rows, truth: Ints) -> Predict:
    import lightgbm

    settings = {
        "objective": "multiclass", "num_class": rows.start.shape[1], "boost_from_average": False, "seed": _SEED,
        "learning_rate": _RATE, "max_depth": _DEPTH, "num_leaves": 2**_DEPTH - 1, "min_data_in_leaf": 10,
        "lambda_l2": 1.0, "num_threads": 1, "deterministic": True, "force_row_wise": True, "verbose": -1,
    }  # fmt: skip
    table = lightgbm.Dataset(rows.columns, label=truth, init_score=rows.start)
    model = lightgbm.train(settings, table, num_boost_round=_TREES)
    return lambda others: softmax(np.asarray(model.predict(others.columns, raw_score=True)) + others.start)


def _xgboost(rows: Rows, truth: Ints) -> Predict:
    import xgboost

    settings = {
        "objective": "multi:softprob", "num_class": rows.start.shape[1], "seed": _SEED, "eta": _RATE,
        "max_depth": _DEPTH, "min_child_weight": 2.0, "lambda": 1.0, "tree_method": "hist", "nthread": 1,
        "verbosity": 0,
    }  # fmt: skip

    def table(of: Rows, label: Ints | None = None) -> object:
        return xgboost.DMatrix(of.columns, label=label, base_margin=of.start, nthread=1)

    model = xgboost.train(settings, table(rows, truth), num_boost_round=_TREES)
    return lambda others: softmax(np.asarray(model.predict(table(others), output_margin=True), dtype=np.float64))


def _catboost(rows: Rows, truth: Ints) -> Predict:
    import catboost

    if (rows.columns == rows.columns[0]).all():  # XGBoost refuses to search for missing values that do not exist
        return lambda others: softmax(others.start)
    model = catboost.CatBoostClassifier(
        loss_function="MultiClass", classes_count=rows.start.shape[1], random_seed=_SEED, iterations=_TREES,
        learning_rate=_RATE, depth=_DEPTH, l2_leaf_reg=3.0, thread_count=1, allow_writing_files=False, verbose=False,
    )  # fmt: skip
    model.fit(catboost.Pool(rows.columns, label=truth, baseline=rows.start))

    def predict(others: Rows) -> Floats:
        table = catboost.Pool(others.columns, baseline=others.start)
        return softmax(np.asarray(model.predict(table, prediction_type="RawFormulaVal", thread_count=1)))

    return predict


def softmax(scores: Floats) -> Floats:
    """Return probabilities of (N, classes)."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)


def sigmoid(odds: Floats) -> Floats:
    """Return probabilities of log-odds."""
    return np.asarray(np.exp(-np.logaddexp(0, -odds)), dtype=np.float64)


LEARNERS: Mapping[str, tuple[str, Learner]] = {
    "logistic": ("sklearn", _logistic),
    "lightgbm": ("lightgbm", _lightgbm),
    "xgboost": ("xgboost", _xgboost),
    "catboost": ("catboost", _catboost),
}
"""By name: the module that the learner needs, and the learner."""
