"""The top of the page: which run, how it ended, its figures. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cloudrun.billing.receipt import Receipt
from cloudrun.render.report.curves import best_epoch_of, by_epoch
from cloudrun.render.report.metric import chosen_metric
from cloudrun.render.report.rating import class_ratings
from cloudrun.render.report.results import Results
from cloudrun.render.report.wording import cents, decimal, percent, seconds, short
from cloudrun.state.run import Run
from cloudrun.text.units import times


@dataclass(frozen=True, slots=True)
class Heading:
    """`figures`: (value, name), the most important first. `failure` is empty where the run has not failed."""

    name: str
    run_id: str
    phase: str
    machine: str
    created: str
    failure: str
    figures: tuple[tuple[str, str], ...]


def heading(run: Run, results: Results, cost: Receipt) -> Heading:
    return Heading(
        run.name,
        run.run_id,
        run.phase.value,
        machine_of(cost),
        run.created_at.strftime("%d %B %Y").lstrip("0"),
        run.message if run.exit_code else "",
        figures(results, cost),
    )


def machine_of(cost: Receipt) -> str:
    """`2 x A100:1, aws, us-east-1`."""
    machine = times(cost["nodes"], cost["machine"]) if cost["machine"] else None
    parts = (machine, cost["gpu"], cost["infra"], cost["region"])
    return ", ".join(str(part) for part in dict.fromkeys(parts) if part) or "no machine"


def figures(results: Results, cost: Receipt) -> tuple[tuple[str, str], ...]:
    """Those that are known."""
    summary = results.summary
    validation = "{} out of fold" if summary.is_of_folds else "best validation {}"
    macro_f1 = summary.val_macro_f1 if summary.val_macro_f1 is not None else macro_f1_of(results)
    metric = chosen_metric(results)
    shown = [
        *([(f"test {metric.name}", _known(decimal, metric.test))] if metric else []),
        *([(validation.format(metric.name), _known(decimal, metric.val))] if metric else []),
        ("test accuracy", _known(percent, summary.test_accuracy)),
        ("test macro F1", _known(decimal, summary.test_macro_f1)),
        (validation.format("accuracy"), _known(percent, accuracy_of(results))),
        (validation.format("macro F1"), _known(decimal, macro_f1)),
        ("best epoch", "" if best_epoch(results) is None else str(best_epoch(results))),
        ("images a second", _known(short, summary.images_per_s)),
        ("training", _known(seconds, summary.train_seconds)),
        ("cost" if cost["is_final"] else "cost so far", cents(cost["cost_usd"])),
    ]
    return tuple((value, name) for name, value in shown if value)


def accuracy_of(results: Results) -> float | None:
    """Of validation; a job's own command may call it its metric. Of a run that goes on: the best one so far."""
    summary = results.summary
    if "val_accuracy" in summary.model_fields_set:
        return summary.val_accuracy
    epoch = best_epoch_of(results.metrics) if summary.best_metric is None else None
    return summary.best_metric if epoch is None else dict(by_epoch(results.metrics, "val", "accuracy"))[epoch]


def macro_f1_of(results: Results) -> float | None:
    """The mean F1 of the classes in the judged predictions, with equal weights."""
    judged = results.judged
    if judged is None:
        return None
    defined = [one.f1 for one in class_ratings(judged) if one.f1 is not None]
    return sum(defined) / len(defined) if defined else None


def best_epoch(results: Results) -> int | None:
    """The one that the trainer names, else that of the curves."""
    named = results.summary.best_epoch
    return best_epoch_of(results.metrics) if named is None else named


def _known(text: Callable[[float], str], value: float | None) -> str:
    return "" if value is None else text(value)
