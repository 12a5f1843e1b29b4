"""Choose the curves of a run for a dashboard: a name, the series, and the newest value of each in words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cloudrun.protocol.machine_use import GpuSample, MachineSample
from cloudrun.protocol.metrics import OTHER_METRICS, Kind, MetricsRow
from cloudrun.text.units import size


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart: `curves` are drawn, the last one on top; `now` has the newest value of each in words."""

    name: str
    now: str
    curves: tuple[tuple[float, ...], ...]
    shown: Callable[[float], str] = str

    @property
    def scale(self) -> str:
        """The least and the largest value in words; empty where there is no value."""
        values = [value for curve in self.curves for value in curve]
        return f"{self.shown(min(values))} to {self.shown(max(values))}" if values else ""


def figures(rows: Sequence[MetricsRow], samples: Sequence[MachineSample]) -> list[Figure]:
    """Return the charts of a run, the most telling ones first. Charts without a value are left out."""
    metric = _metric_of(rows)
    made = [
        _of_both("loss", rows, "loss", _four),
        _of_both(metric.replace("_", " "), rows, metric, _four),
        _of_gpus("GPU use", samples, lambda gpu: gpu.use_percent, _percent),
        _of_rows("images/s", rows, "train", "images_per_s", lambda value: f"{value:.0f}"),
        _of_rows("learning rate", rows, "train", "lr", lambda value: f"{value:.2e}"),
        _of_rows("waiting for images", rows, "train", "wait_share", lambda value: f"{value:.0%}"),
        _of_gpus("GPU memory", samples, lambda gpu: gpu.memory_used_bytes, size),
        _of_gpus("GPU power", samples, lambda gpu: gpu.power_w, lambda value: f"{value:.0f} W"),
        _of_gpus("GPU temperature", samples, lambda gpu: gpu.temperature_c, lambda value: f"{value:.0f} °C"),
        _of_samples("cores", samples, lambda sample: sample.cpu_percent, _percent),
        _of_samples("memory", samples, lambda sample: sample.memory_used_bytes, size),
    ]
    return [figure for figure in made if any(figure.curves)]


def _metric_of(rows: Sequence[MetricsRow]) -> str:
    """Return the key of the competition's metric, else of macro F1 where images have several labels, else accuracy."""
    known = (*OTHER_METRICS, "macro_f1")
    return next((key for key in known if any(row.get(key) is not None for row in rows)), "accuracy")


def _of_both(name: str, rows: Sequence[MetricsRow], key: str, shown: Callable[[float], str]) -> Figure:
    train, val = _values(rows, "train", key), _values(rows, "val", key)
    now = [f"{kind} {shown(values[-1])}" for kind, values in (("train", train), ("val", val)) if values]
    return Figure(name, "  ".join(now), (train, val), shown)


def _of_rows(name: str, rows: Sequence[MetricsRow], kind: Kind, key: str, shown: Callable[[float], str]) -> Figure:
    values = _values(rows, kind, key)
    return Figure(name, shown(values[-1]) if values else "", (values,), shown)


def _of_gpus(
    name: str,
    samples: Sequence[MachineSample],
    value_of: Callable[[GpuSample], float | None],
    shown: Callable[[float], str],
) -> Figure:
    by_gpu: dict[int, list[float]] = {}
    for sample in samples:
        for gpu in sample.gpus:
            value = value_of(gpu)
            if value is not None:
                by_gpu.setdefault(gpu.index, []).append(value)
    curves = [tuple(by_gpu[index]) for index in sorted(by_gpu)]
    return Figure(name, "  ".join(shown(curve[-1]) for curve in curves), tuple(curves), shown)


def _of_samples(
    name: str,
    samples: Sequence[MachineSample],
    value_of: Callable[[MachineSample], float | None],
    shown: Callable[[float], str],
) -> Figure:
    values = tuple(value for value in map(value_of, samples) if value is not None)
    return Figure(name, shown(values[-1]) if values else "", (values,), shown)


def _values(rows: Sequence[MetricsRow], kind: Kind, key: str) -> tuple[float, ...]:
    values = (row.get(key) for row in rows if row["kind"] == kind)
    return tuple(float(value) for value in values if isinstance(value, int | float))


def _four(value: float) -> str:
    return f"{value:.4f}"


def _percent(value: float) -> str:
    return f"{value:.0f} %"
