"""The machine while it trained: use, memory, power and temperature of its GPUs, use of its cores. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cloudrun.protocol.machine_use import GpuSample, MachineSample, summed_up
from cloudrun.protocol.metrics import MetricsRow
from cloudrun.render.report.charts.line import Axis, LineChart, Series, line_chart
from cloudrun.render.report.wording import number_tick, percent, percent_tick, short

_GPUS = 8
_POINTS = 150  # of a line; each is the mean of the samples near it
_MINUTES = Axis("minutes", lambda value: f"{value:.1f}", number_tick, low=0.0)
_SHARE = Axis("share", percent, percent_tick, low=0.0, high=1.0)

Value = Callable[[GpuSample], float | None]


def machine_charts(samples: Sequence[MachineSample]) -> list[LineChart]:
    """Return the charts that have values, over the minutes since the first sample."""
    if not samples:
        return []
    number = Axis("number", short, number_tick, low=0.0)
    charts = [
        _of_gpus("GPU use", samples, lambda gpu: _share(gpu.use_percent, 100), _SHARE),
        _of_gpus("GPU memory", samples, lambda gpu: _share(gpu.memory_used_bytes, gpu.memory_bytes), _SHARE),
        _of_gpus("GPU power in watts", samples, lambda gpu: gpu.power_w, number),
        _of_gpus("GPU temperature in degrees Celsius", samples, lambda gpu: gpu.temperature_c, number),
        _chart("Use of the machine's cores", {"all cores": _cores(samples)}, _SHARE),
    ]
    return [chart for chart in charts if chart is not None]


def machine_findings(samples: Sequence[MachineSample], metrics: Sequence[MetricsRow]) -> tuple[str, ...]:
    """Return a sentence for each GPU that idled too long, with the likely cause."""
    use = summed_up(samples, metrics)
    return () if use is None else tuple(use.findings)


def _of_gpus(title: str, samples: Sequence[MachineSample], value: Value, axis: Axis) -> LineChart | None:
    begun = samples[0].unix_time
    lines: dict[str, list[tuple[float, float]]] = {}
    for sample in samples:
        for gpu in sample.gpus[:_GPUS]:
            found = value(gpu)
            if found is not None:
                lines.setdefault(f"GPU {gpu.index}", []).append(((sample.unix_time - begun) / 60, found))
    return _chart(title, lines, axis)


def _chart(title: str, lines: dict[str, list[tuple[float, float]]], axis: Axis) -> LineChart | None:
    series = [Series(name, _thinned(points), style + 1) for style, (name, points) in enumerate(lines.items())]
    return line_chart(title, series, x=_MINUTES, y=axis)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most `_POINTS` points in the order of their time: means of neighbours, so that no peak misleads."""
    each = -(-len(points) // _POINTS) or 1
    found: dict[float, float] = {}
    ordered = sorted(points)
    for start in range(0, len(ordered), each):
        part = ordered[start : start + each]
        at = round(sum(minute for minute, _ in part) / len(part), 2)
        found[at] = sum(value for _, value in part) / len(part)
    return sorted(found.items())


def _cores(samples: Sequence[MachineSample]) -> list[tuple[float, float]]:
    begun = samples[0].unix_time
    return [
        ((sample.unix_time - begun) / 60, sample.cpu_percent / 100)
        for sample in samples
        if sample.cpu_percent is not None
    ]


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else min(part / whole, 1.0)
