"""Several runs on one page: their figures, their curves over each other, the settings in which they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cloudrun.billing.receipt import Receipt
from cloudrun.protocol.metrics import MetricsRow
from cloudrun.recipe.train_config import TrainConfig
from cloudrun.render.report.charts.line import Axis, LineChart, Points, Series, Text, line_chart
from cloudrun.render.report.curves import EPOCH, LOSS, SHARE, by_epoch
from cloudrun.render.report.heading import accuracy_of, best_epoch, machine_of, macro_f1_of
from cloudrun.render.report.metric import chosen_metric
from cloudrun.render.report.rating import class_ratings
from cloudrun.render.report.results import Results, read_results
from cloudrun.render.report.settings import setting_text
from cloudrun.render.report.template import rendered
from cloudrun.render.report.wording import decimal, number_tick, percent, seconds, short, usd
from cloudrun.state.run import Run

_CLASSES = 60
_MINUTES = Axis("minutes", lambda value: f"{value:.1f}", number_tick, low=0.0)


@dataclass(frozen=True, slots=True)
class Member:
    """A run, the folder of its results, and its receipt."""

    run: Run
    folder: Path
    cost: Receipt


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table: a name, and a text for each run. `best`: the places of the best ones, where that is meant."""

    name: str
    texts: tuple[str, ...]
    best: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that the page shows."""

    runs: tuple[tuple[str, str], ...]  # name, run id
    figures: tuple[Line, ...]
    charts: tuple[LineChart, ...]
    settings: tuple[Line, ...]
    classes: tuple[Line, ...]
    troubles: tuple[str, ...]


def comparison_html(members: Sequence[Member], *, layout: str = "base.html") -> str:
    """Return the page that compares `members`, in their order, as a file of its own or in another layout."""
    results = [read_results(member.folder) for member in members]
    return rendered("comparison.html", layout=layout, page=comparison_of(members, results))


def comparison_of(members: Sequence[Member], results: Sequence[Results]) -> Comparison:
    return Comparison(
        runs=tuple((member.run.name, member.run.run_id) for member in members),
        figures=_figures(members, results),
        charts=_charts(members, results),
        settings=_differing_settings(members),
        classes=_classes(results),
        troubles=tuple(trouble for one in results for trouble in one.troubles),
    )


def _figures(members: Sequence[Member], results: Sequence[Results]) -> tuple[Line, ...]:
    costs = [member.cost for member in members]
    summaries = [one.summary for one in results]
    worths = [cost["accuracy"] for cost in costs]
    epochs = [best_epoch(one) for one in results]
    lines = [
        Line("state", tuple(member.run.phase.value for member in members)),
        *_of_the_metric(results),
        _highest("test accuracy", [one.test_accuracy for one in summaries], percent),
        _highest("test macro F1", [one.test_macro_f1 for one in summaries], decimal),
        _highest("validation accuracy", [accuracy_of(one) for one in results], percent),
        _highest("validation macro F1", [macro_f1_of(one) for one in results], decimal),
        Line("best epoch", tuple("" if one is None else str(one) for one in epochs)),
        _highest("images a second", [one.images_per_s for one in summaries], short),
        _lowest("training", [one.train_seconds for one in summaries], seconds),
        _lowest("cost", [cost["cost_usd"] for cost in costs], usd),
        _lowest("cost of a point of accuracy", [worth and worth["usd_per_point"] for worth in worths], usd),
        Line("machine", tuple(map(machine_of, costs))),
    ]
    return tuple(line for line in lines if any(line.texts))


def _of_the_metric(results: Sequence[Results]) -> list[Line]:
    """The competition's metric, where all runs were chosen by the same one."""
    metrics = [chosen_metric(one) for one in results]
    known = [metric for metric in metrics if metric is not None]
    if len(known) < len(metrics) or len({metric.name for metric in known}) > 1:
        return []
    line = _lowest if known[0].is_loss else _highest
    return [
        line(f"test {known[0].name}", [metric.test for metric in known], decimal),
        line(f"validation {known[0].name}", [metric.val for metric in known], decimal),
    ]


def _highest(name: str, values: Sequence[float | None], text: Text) -> Line:
    return _with_best(name, values, text, best=max)


def _lowest(name: str, values: Sequence[float | None], text: Text) -> Line:
    return _with_best(name, values, text, best=min)


def _with_best(
    name: str, values: Sequence[float | None], text: Text, *, best: Callable[[Iterable[float]], float]
) -> Line:
    """Several may share the best value; where all do, or only one is known, none is pointed out."""
    known = [value for value in values if value is not None]
    limit = best(known) if len(set(known)) > 1 else None
    places = frozenset(at for at, value in enumerate(values) if value is not None and value == limit)
    return Line(name, tuple("" if value is None else text(value) for value in values), places)


def _charts(members: Sequence[Member], results: Sequence[Results]) -> tuple[LineChart, ...]:
    """Runs of folds have no curve of their own here: their epochs are those of several models."""
    rows = [[] if any("fold" in row for row in one.metrics) else one.metrics for one in results]
    names = [member.run.run_id for member in members]
    charts = [
        _chart("Validation accuracy", names, [by_epoch(one, "val", "accuracy") for one in rows], EPOCH, SHARE),
        _chart("Validation loss", names, [by_epoch(one, "val", "loss") for one in rows], EPOCH, LOSS),
        _chart("Training loss", names, [by_epoch(one, "train", "loss") for one in rows], EPOCH, LOSS),
        _chart("Validation accuracy by time", names, [_by_minutes(one) for one in rows], _MINUTES, SHARE),
    ]
    return tuple(chart for chart in charts if chart is not None)


def _chart(title: str, names: Sequence[str], lines: Sequence[Points], x: Axis, y: Axis) -> LineChart | None:
    series = [Series(name, points, style + 1) for style, (name, points) in enumerate(zip(names, lines, strict=True))]
    return line_chart(title, series, x=x, y=y)


def _by_minutes(rows: Sequence[MetricsRow]) -> list[tuple[float, float]]:
    """Validation accuracy by the minutes since the first row; a run that was resumed counts the time between, too."""
    moments = [datetime.fromisoformat(row["time"]) for row in rows]
    found = {}
    for row, moment in zip(rows, moments, strict=True):
        value = row.get("accuracy")
        if row["kind"] == "val" and value is not None:
            found[round((moment - moments[0]).total_seconds() / 60, 2)] = value
    return sorted(found.items())


def _differing_settings(members: Sequence[Member]) -> tuple[Line, ...]:
    """The keys of `train:` that have not the same value in all runs; a run of one's own command has none."""
    trains = [member.run.job.get("train") for member in members]
    given = [train if isinstance(train, dict) else {} for train in trains]
    defaults = TrainConfig().model_dump(mode="json")
    lines = []
    for key, default in defaults.items():
        texts = tuple(setting_text(train.get(key, default)) for train in given)
        if len(set(texts)) > 1:
            lines.append(Line(key, texts))
    return tuple(lines)


def _classes(results: Sequence[Results]) -> tuple[Line, ...]:
    """F1 of each class that some run has judged, in the order of the first run that has it."""
    rated = [{one.name: one.f1 for one in class_ratings(run.judged)} if run.judged else {} for run in results]
    names = dict.fromkeys(name for one in rated for name in one)
    if sum(map(bool, rated)) < 2:
        return ()
    return tuple(_highest(name, [one.get(name) for one in rated], decimal) for name in list(names)[:_CLASSES])
