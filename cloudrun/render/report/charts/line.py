"""A line chart: lines over a common axis, with the values at each place of that axis in words. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cloudrun.render.report.charts.scale import Scale, padded, ticks

WIDTH, HEIGHT = 400, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 20, 14, 30
_MOST_PLACES = 300  # on the axis; more would be nearer to each other than a pixel
_DOTS_UP_TO = 40  # points of a line that are also drawn as dots

Points = Sequence[tuple[float, float]]
Text = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Series:
    """A named line. `style` is the number of its colour and dashes, from 0."""

    name: str
    points: Points
    style: int


@dataclass(frozen=True, slots=True)
class Axis:
    """How an axis is called, and how its values are written; `tick`: beside the axis, where that is shorter."""

    name: str
    text: Text
    tick: Text | None = None
    is_whole: bool = False
    low: float | None = None  # where it begins and ends, whatever the values
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A value of the x axis that is pointed out."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Notes:
    """What else is said of some values of the x axis: a column more in the table."""

    name: str
    texts: Mapping[float, str]


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class DrawnLine:
    name: str
    style: int
    path: str
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of the axis around one of its values, and all that stands there in words."""

    left: float
    width: float
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class LineChart:
    """All that the template draws. `marked` is the index of the place whose words stand below the chart at first."""

    title: str
    summary: str
    x_name: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[DrawnLine, ...]
    places: tuple[Place, ...]
    marked: int
    mark: Tick | None
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def line_chart(  # noqa: PLR0913 - the parts of a chart, each by its name
    title: str,
    series: Sequence[Series],
    *,
    x: Axis,
    y: Axis,
    mark: Mark | None = None,
    notes: Notes | None = None,
) -> LineChart | None:
    """Draw the series that have points; None where none has."""
    shown = [one for one in series if one.points]
    if not shown:
        return None
    kept = _kept_values(shown, mark)
    x_scale = _scale(x, [at for one in shown for at, _ in one.points], _LEFT, WIDTH - _RIGHT)
    y_scale = _scale(y, [value for one in shown for _, value in one.points], HEIGHT - _BOTTOM, _TOP)
    header = (x.name, *(one.name for one in shown), *((notes.name,) if notes else ()))
    rows = _rows(shown, kept, x, y, notes)
    places = _places(header, rows, [x_scale.place(value) for value in kept])
    is_marked = mark is not None and mark.at in kept
    marked = kept.index(mark.at) if mark is not None and is_marked else len(kept) - 1
    place = mark.text if mark is not None and is_marked else "last"
    return LineChart(
        title=title,
        summary=f"{title} by {x.name}, {_names(shown)}; {place}: {places[marked].text}",
        x_name=x.name,
        x_ticks=_ticks(x, x_scale, 6),
        y_ticks=_ticks(y, y_scale, 5),
        lines=tuple(_line(one, kept, x_scale, y_scale) for one in shown),
        places=places,
        marked=marked,
        mark=Tick(x_scale.place(mark.at), mark.text) if mark is not None and is_marked else None,
        header=header,
        rows=rows,
    )


def _names(series: Sequence[Series]) -> str:
    return f"{len(series)} lines" if len(series) > 3 else " and ".join(one.name for one in series)


def _kept_values(series: Sequence[Series], mark: Mark | None) -> list[float]:
    """The values of the axis that are shown: all of them, or every n-th with the last and the marked one."""
    values = sorted({at for one in series for at, _ in one.points})
    step = math.ceil(len(values) / _MOST_PLACES)
    return sorted({*values[::step], values[-1], *(value for value in values if mark is not None and value == mark.at)})


def _scale(axis: Axis, values: Sequence[float], start: float, end: float) -> Scale:
    low = min(values) if axis.low is None else min(axis.low, *values)
    high = max(values) if axis.high is None else max(axis.high, *values)
    if axis.is_whole and high <= low:
        high = low + 1
    return Scale(*padded(low, high), start, end)


def _ticks(axis: Axis, scale: Scale, parts: int) -> tuple[Tick, ...]:
    return tuple(
        Tick(scale.place(value), (axis.tick or axis.text)(value))
        for value in ticks(scale.low, scale.high, parts, is_whole=axis.is_whole)
    )


def _line(one: Series, kept: Sequence[float], x_scale: Scale, y_scale: Scale) -> DrawnLine:
    values = dict(one.points)
    points = [(x_scale.place(at), y_scale.place(values[at])) for at in kept if at in values]
    path = "M" + "L".join(f"{across:g},{down:g}" for across, down in points)
    dots = tuple(points) if len(points) <= _DOTS_UP_TO else ()
    return DrawnLine(one.name, one.style, path, dots)


def _places(header: Sequence[str], rows: Sequence[Sequence[str]], at: Sequence[float]) -> tuple[Place, ...]:
    """Each place reaches half of the way to its neighbours."""
    edges = [_LEFT, *((left + right) / 2 for left, right in pairwise(at)), WIDTH - _RIGHT]
    return tuple(
        Place(
            left=round(edges[index], 1),
            width=round(max(edges[index + 1] - edges[index], 0.1), 1),
            at=at[index],
            text=f"{header[0]} {first}: "
            + ", ".join(f"{name} {text}" for name, text in zip(header[1:], texts, strict=True) if text),
        )
        for index, (first, *texts) in enumerate(rows)
    )


def _rows(
    series: Sequence[Series], kept: Sequence[float], x: Axis, y: Axis, notes: Notes | None
) -> tuple[tuple[str, ...], ...]:
    """The words at each place: of the axis, of each line that has a value there, of the note."""
    values = [dict(one.points) for one in series]
    return tuple(
        (
            x.text(value),
            *(y.text(known[value]) if value in known else "" for known in values),
            *((notes.texts.get(value, ""),) if notes else ()),
        )
        for value in kept
    )
