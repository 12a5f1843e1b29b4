"""The run over its epochs: loss and metric, learning rate, throughput. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cloudrun.protocol.metrics import Kind, MetricsRow
from cloudrun.render.report.charts.line import Axis, LineChart, Mark, Series, line_chart
from cloudrun.render.report.metric import METRIC_NAMES, MetricKey
from cloudrun.render.report.wording import decimal, number_tick, percent, percent_tick, short

Key = Literal["accuracy", "macro_f1", "loss", "lr", "images_per_s", "wait_share"] | MetricKey
_TRAIN, _VAL = 0, 1  # styles
EPOCH = Axis("epoch", lambda value: f"{value:.0f}", is_whole=True)
SHARE = Axis("share", percent, percent_tick, high=1.0)
LOSS = Axis("loss", lambda value: decimal(value) if abs(value) < 1e4 else short(value), number_tick)
_FOLDS_SHOWN = 10


def curves(metrics: Sequence[MetricsRow], best_epoch: int | None) -> list[LineChart]:
    """The charts that have values; of folds, a line for each, over its own epochs."""
    if any("fold" in row for row in metrics):
        learning = [_of_folds(metrics, "Accuracy", "accuracy", SHARE), _of_folds(metrics, "Loss", "loss", LOSS)]
        mark = None
    else:
        mark = None if best_epoch is None else Mark(best_epoch, "best epoch")
        learning = [
            *(
                _learning(metrics, f"{name[0].upper()}{name[1:]}", key, Axis(name, decimal, number_tick), mark)
                for key, name in METRIC_NAMES.items()
            ),
            _learning(metrics, "Accuracy", "accuracy", SHARE, mark),
            _learning(metrics, "Macro F1", "macro_f1", Axis("F1", decimal, number_tick, high=1.0), mark),
            _learning(metrics, "Loss", "loss", LOSS, mark),
        ]
    number = Axis("number", short, number_tick, low=0.0)
    others = [
        _training(metrics, "Learning rate", "lr", number, mark),
        _training(metrics, "Images a second", "images_per_s", number, mark),
        _training(
            metrics, "Time spent waiting for images", "wait_share", Axis("share", percent, percent_tick, low=0.0), mark
        ),
    ]
    return [chart for chart in (*learning, *others) if chart is not None]


def best_epoch_of(metrics: Sequence[MetricsRow]) -> int | None:
    """The first epoch with the highest validation accuracy; None where no epoch has one, or where folds count on."""
    scored = dict(by_epoch(metrics, "val", "accuracy"))
    if not scored or any("fold" in row for row in metrics):
        return None
    return int(min(scored, key=lambda epoch: (-scored[epoch], epoch)))


def by_epoch(metrics: Sequence[MetricsRow], kind: Kind, key: Key) -> list[tuple[float, float]]:
    """The last value of each epoch."""
    values = {row["epoch"]: row.get(key) for row in metrics if row["kind"] == kind and row.get(key) is not None}
    return sorted((float(epoch), float(value)) for epoch, value in values.items() if isinstance(value, int | float))


def _learning(metrics: Sequence[MetricsRow], title: str, key: Key, axis: Axis, mark: Mark | None) -> LineChart | None:
    series = [
        Series("training", by_epoch(metrics, "train", key), _TRAIN),
        Series("validation", by_epoch(metrics, "val", key), _VAL),
    ]
    return line_chart(title, series, x=EPOCH, y=axis, mark=mark)


def _training(metrics: Sequence[MetricsRow], title: str, key: Key, axis: Axis, mark: Mark | None) -> LineChart | None:
    series = [Series(title.lower(), by_epoch(metrics, "train", key), _VAL)]
    return line_chart(title, series, x=EPOCH, y=axis, mark=mark)


def _of_folds(metrics: Sequence[MetricsRow], title: str, key: Key, axis: Axis) -> LineChart | None:
    """Validation of each fold. Their epochs count on in the file; here each begins at 1."""
    folds: dict[int, list[MetricsRow]] = {}
    for row in metrics:
        fold = row.get("fold")
        if type(fold) is int:
            folds.setdefault(fold, []).append(row)
    series = []
    for style, (fold, rows) in enumerate(sorted(folds.items())[:_FOLDS_SHOWN]):
        before = min(row["epoch"] for row in rows) - 1
        points = [(epoch - before, value) for epoch, value in by_epoch(rows, "val", key)]
        series.append(Series(f"fold {fold}", points, style + 1))
    return line_chart(f"{title} of validation", series, x=EPOCH, y=axis)
