"""Axes: round numbers for their ticks, and places in the drawing for their values. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high`, drawn from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """The place of `value`, to a tenth of a pixel; values beyond the ends are drawn at them."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + min(max(share, 0.0), 1.0) * (self.end - self.start), 1)


def round_step(span: float, parts: int, *, is_whole: bool = False) -> float:
    """The step of 1, 2, 2.5 or 5 times a power of ten that cuts `span` into about `parts` parts."""
    if is_whole and span <= parts:
        return 1.0
    raw = span / parts
    power = 10.0 ** math.floor(math.log10(raw))
    steps = [step for step in _STEPS if not is_whole or power > 1 or step != 2.5]
    return power * min(steps, key=lambda step: abs(math.log(step * power / raw)))


def ticks(low: float, high: float, parts: int, *, is_whole: bool = False) -> list[float]:
    """Multiples of a round step from `low` to `high`. They are not the same number: low < high."""
    step = round_step(high - low, parts, is_whole=is_whole)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{at * step:.12g}") for at in range(first, min(last, first + 20) + 1)]


def padded(low: float, high: float) -> tuple[float, float]:
    """A range that has some extent, also where all values are the same."""
    if high > low:
        return low, high
    margin = max(abs(high) / 100, 0.5)
    return low - margin, high + margin
