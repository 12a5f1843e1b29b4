"""A command of the user's own may write anything into metrics.jsonl: it must not stop what ends a bill."""

from __future__ import annotations

import pytest

from cloudrun.protocol.metrics import parse_metrics

GOOD = '{"kind": "val", "epoch": 1, "accuracy": 0.5, "time": "2026-11-24T12:00:00Z"}'


@pytest.mark.parametrize(
    "line",
    [
        "{not json}",
        "[1, 2]",
        '{"kind": "val", "acc": 0.9}',
        '{"kind": "val", "epoch": "one", "time": "2026-11-24T12:00:00Z"}',
        '{"kind": "val", "epoch": 1, "accuracy": "high", "time": "2026-11-24T12:00:00Z"}',
        '{"kind": "val", "epoch": 1, "time": "yesterday"}',
        '{"kind": "val", "epoch": NaN, "time": "2026-11-24T12:00:00Z"}',
        '{"kind": "val", "epoch": 1, "accuracy": NaN, "time": "2026-11-24T12:00:00Z"}',
        "[" * 100_000,
        '{"kind": "val", "epoch": 1, "time": "2026-11-24T12:00:00"}',
        '{"kind": "val", "epo',
    ],
)
def test_what_is_no_row_of_ours_is_left_out(line: str) -> None:
    assert [row["accuracy"] for row in parse_metrics(f"{GOOD}\n{line}\n{GOOD}\n")] == [0.5, 0.5]
