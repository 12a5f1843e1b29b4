"""The metric of the competition that chose the epoch, where it is neither accuracy nor macro F1. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cloudrun.render.report.results import Results

MetricKey = Literal["balanced_accuracy", "f_beta", "auc", "log_loss", "quadratic_kappa", "top_k"]
METRIC_NAMES: dict[MetricKey, str] = {
    "balanced_accuracy": "balanced accuracy",
    "f_beta": "F-beta",
    "auc": "ROC AUC",
    "log_loss": "log loss",
    "quadratic_kappa": "quadratic kappa",
    "top_k": "top-k accuracy",
}


@dataclass(frozen=True, slots=True)
class ChosenMetric:
    """`is_loss`: lower is better."""

    name: str
    val: float | None
    test: float | None
    is_loss: bool


def chosen_metric(results: Results) -> ChosenMetric | None:
    """None where accuracy or macro F1 chose the epoch: they are figures of their own."""
    _, _, key = (results.summary.metric_name or "").partition("_")
    name = next((name for known, name in METRIC_NAMES.items() if known == key), None)
    if name is None:
        return None
    return ChosenMetric(name, results.summary.best_metric, results.details.test_metric, is_loss=key == "log_loss")
