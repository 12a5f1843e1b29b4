"""The curves of a dashboard: which there are, and how they are drawn."""

from __future__ import annotations

import math

from cloudrun.protocol.machine_use import GpuSample, MachineSample
from cloudrun.protocol.metrics import MetricsRow
from cloudrun.render.figures import figures
from cloudrun.render.plot import plot, thinned

AT = "2026-11-28T12:00:00Z"
ROWS = [
    MetricsRow(kind="train", epoch=1, time=AT, loss=2.0, accuracy=0.5, lr=3e-4, images_per_s=310.0, wait_share=0.25),
    MetricsRow(kind="val", epoch=1, time=AT, loss=2.5, accuracy=0.4, images_per_s=900.0),
    MetricsRow(kind="train", epoch=2, time=AT, loss=1.0, accuracy=0.7, lr=1e-4, images_per_s=312.0, wait_share=0.05),
    MetricsRow(kind="val", epoch=2, time=AT, loss=1.5, accuracy=0.6, images_per_s=900.0),
]
GIB = 2**30


def drawn(*curves: list[float], width: int, height: int) -> list[str]:
    return ["".join(cell.letter for cell in row) for row in plot(curves, width=width, height=height)]


def test_the_figures_of_a_run_have_the_newest_values_and_the_scale() -> None:
    samples = [MachineSample(AT, 88, GIB, 8 * GIB, (GpuSample(0, 40, 2e9, 8e10, 212.5, 61), GpuSample(1, 90)))]
    assert [(one.name, one.now, one.scale) for one in figures(ROWS, samples)] == [
        ("loss", "train 1.0000  val 1.5000", "1.0000 to 2.5000"),
        ("accuracy", "train 0.7000  val 0.6000", "0.4000 to 0.7000"),
        ("GPU use", "40 %  90 %", "40 % to 90 %"),
        ("images/s", "312", "310 to 312"),
        ("learning rate", "1.00e-04", "1.00e-04 to 3.00e-04"),
        ("waiting for images", "5%", "5% to 25%"),
        ("GPU memory", "2.00 GB", "2.00 GB to 2.00 GB"),
        ("GPU power", "212 W", "212 W to 212 W"),
        ("GPU temperature", "61 °C", "61 °C to 61 °C"),
        ("cores", "88 %", "88 % to 88 %"),
        ("memory", "1.07 GB", "1.07 GB to 1.07 GB"),
    ]


def test_the_metric_of_a_competition_takes_the_place_of_accuracy() -> None:
    rows = [MetricsRow(kind="val", epoch=1, time=AT, loss=1.0, accuracy=0.5, quadratic_kappa=0.81)]
    assert [one.name for one in figures(rows, [])] == ["loss", "quadratic kappa"]


def test_without_figures_there_is_no_chart() -> None:
    assert figures([], []) == []


def test_a_rising_curve_goes_from_the_bottom_to_the_top() -> None:
    top, bottom = drawn([0, 1], width=4, height=2)
    assert bottom[0] != " "
    assert top[-1] != " "
    assert bottom[-1] == top[0] == " "


def test_a_flat_curve_and_a_single_value_are_a_line_in_the_middle() -> None:
    assert drawn([5, 5, 5], width=3, height=1) == drawn([5], width=3, height=1) == ["⠤⠤⠤"]


def test_each_cell_names_its_curve_and_the_last_curve_is_on_top() -> None:
    ((first, second),) = plot([[1, 1], [1, 1]], width=2, height=1)
    assert (first.curve, second.curve) == (1, 1)


def test_values_that_are_not_finite_are_left_out() -> None:
    assert drawn([math.nan, 1, math.inf], width=2, height=1) == drawn([1], width=2, height=1)
    assert drawn([], width=2, height=1) == ["  "]


def test_many_values_become_means_of_neighbours() -> None:
    assert thinned([1, 3, 5, 7], 2) == [2, 6]
    assert len(thinned(list(range(1001)), 80)) == 80
