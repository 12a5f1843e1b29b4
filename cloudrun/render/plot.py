"""Draw curves with braille letters, for a terminal. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

_BRAILLE = 0x2800
# The bit of each dot of a braille letter: two columns of four dots.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


@dataclass(frozen=True, slots=True)
class Cell:
    """A letter of a plot, and the number of the curve that it belongs to; None where there is no curve."""

    letter: str
    curve: int | None = None


def plot(curves: Sequence[Sequence[float]], *, width: int, height: int) -> list[list[Cell]]:
    """Return `height` rows of `width` cells with all curves on one scale, from the least to the largest value.

    Each curve spans the width. Where curves meet, the last one is shown. Values that are not finite are left out.
    """
    dots = [[0] * width for _ in range(height)]
    owner: list[list[int | None]] = [[None] * width for _ in range(height)]
    finite = [value for curve in curves for value in curve if math.isfinite(value)]
    if finite and width > 0 and height > 0:
        low, high = min(finite), max(finite)
        for number, curve in enumerate(curves):
            places = _places([value for value in curve if math.isfinite(value)], (low, high), width * 2, height * 4)
            for x, y in places:
                row, column = y // 4, x // 2
                if owner[row][column] != number:
                    owner[row][column], dots[row][column] = number, 0
                dots[row][column] |= _DOTS[x % 2][y % 4]
    return [
        [Cell(chr(_BRAILLE + bits) if bits else " ", number) for bits, number in zip(row, owners, strict=True)]
        for row, owners in zip(dots, owner, strict=True)
    ]


def _places(values: Sequence[float], scale: tuple[float, float], columns: int, rows: int) -> list[tuple[int, int]]:
    """Return the dots of one curve as (column, row from the top), without gaps between neighbours."""
    low, high = scale
    span = high - low

    def row_of(value: float) -> int:
        share = (value - low) / span if span else 0.5
        return round((1 - share) * (rows - 1))

    if not values:
        return []
    points = thinned(values, columns)
    if len(points) == 1:
        return [(column, row_of(points[0])) for column in range(columns)]
    places: list[tuple[int, int]] = []
    for column in range(columns):
        at = column * (len(points) - 1) / (columns - 1)
        left = min(int(at), len(points) - 2)
        value = points[left] + (points[left + 1] - points[left]) * (at - left)
        row = row_of(value)
        before = places[-1][1] if places else row
        between = range(min(before, row) + 1, max(before, row))
        places.extend((column, place) for place in between)
        places.append((column, row))
    return places


def thinned(values: Sequence[float], most: int) -> list[float]:
    """Return at most `most` values: the means of neighbours where there are more."""
    if len(values) <= most:
        return list(values)
    edges = [round(place * len(values) / most) for place in range(most + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
