"""Numbers and names as a reader of the report sees them."""

from __future__ import annotations

import pytest

from cloudrun.render.report.charts.scale import Scale, padded, ticks
from cloudrun.render.report.wording import cents, decimal, moment, number_tick, percent, seen, short, usd


@pytest.mark.parametrize(
    ("value", "whole", "beside_an_axis"),
    [
        (0.0, "0", "0"), (0.25, "0.25", "0.25"), (3e-4, "3e-4", "3e-4"), (1.25e-5, "1.25e-5", "1.25e-5"),
        (1234.0, "1,234", "1,234"), (25_000.0, "25,000", "25k"), (1.5e6, "1,500,000", "1.5M"), (2e9, "2e+09", "2e9"),
        (-25_000.0, "-25,000", "-25k"),
    ],
)  # fmt: skip
def test_a_number_is_short_and_shorter_beside_an_axis(value: float, whole: str, beside_an_axis: str) -> None:
    assert (short(value), number_tick(value)) == (whole, beside_an_axis)


def test_money_below_a_cent_is_not_shown_as_nothing() -> None:
    assert [cents(value) for value in (0.0, 0.004, 0.314, 1234.5)] == ["$0.00", "$0.0040", "$0.31", "$1,234.50"]
    assert [usd(value) for value in (0.0, 0.314, 2.5)] == ["$0.00", "$0.3140", "$2.50"]


def test_what_is_no_number_is_a_dash() -> None:
    assert {text(value) for text in (percent, decimal, usd) for value in (None, float("nan"), float("inf"))} == {"–"}


def test_a_moment_is_shown_in_utc_and_what_is_none_as_it_is() -> None:
    assert moment("2026-11-07T12:04:09+08:00") == "7 Nov 2026, 04:04:09 UTC"
    assert (moment("soon"), moment(None)) == ("soon", "–")


def test_characters_that_turn_the_line_or_cannot_be_seen_are_replaced() -> None:
    assert seen("a\u202eb\x00c\ud800d\n\te") == "a\ufffdb\ufffdc?d\n\te"


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0.0, 1.0, False, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]), (1, 3, True, [1, 2, 3]),
        (1, 30, True, [5, 10, 15, 20, 25, 30]),
        (0.26, 1.0, False, [0.4, 0.6, 0.8, 1.0]), (-1e30, 1e30, False, [-1e30, -5e29, 0.0, 5e29, 1e30]),
    ],
)  # fmt: skip
def test_ticks_are_round_numbers_within_the_axis(low: float, high: float, whole: bool, expected: list[float]) -> None:
    assert ticks(low, high, 5, is_whole=whole) == expected


def test_values_of_one_height_still_have_a_place() -> None:
    low, high = padded(5.0, 5.0)
    assert Scale(low, high, 200, 14).place(5.0) == 107.0
