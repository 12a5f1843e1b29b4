"""`logs --tail` and `logs --since`: where reading begins."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cloudrun.runs.log_start import offset_of_tail, offset_since

LOG = b"one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("lines", "shown"),
    [(0, b""), (1, b"three\n"), (2, b"two\nthree\n"), (3, LOG), (99, LOG)],
)
def test_tail_starts_at_the_last_lines(lines: int, shown: bytes) -> None:
    assert LOG[offset_of_tail(LOG, lines) :] == shown


def test_a_line_that_is_still_being_written_counts_as_a_line() -> None:
    assert offset_of_tail(b"one\ntw", 1) == 4


@pytest.mark.parametrize(("second", "shown"), [(5, LOG), (10, LOG), (15, b"two\nthree\n"), (25, b"")])
def test_since_starts_at_what_was_written_then_or_later(second: int, shown: bytes) -> None:
    index = b"0 10.0\n4 20.0\n"
    moment = datetime.fromtimestamp(second, UTC)
    assert LOG[offset_since(index, moment, end=len(LOG)) :] == shown
