"""The billed seconds outlive the watchdog that counts them: no second start begins a new budget."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from cloudrun.protocol.order import Order
from cloudrun.worker.clock import Clock, Kept, Moment, billed_at, read_kept
from tests.support.orders import an_order

ORDER = an_order("true", written_at=9_000.0, billed_s=100.0)
THEN = Moment("boot-1", monotonic=500.0, wall=10_000.0)


@pytest.mark.parametrize(
    ("now", "billed_s"),
    [
        (Moment("boot-1", 560.0, 10_060.0), 460.0),
        (Moment("boot-1", 560.0, 99_999.0), 460.0),  # the clock was set: the same boot knows better
        (Moment("boot-1", 560.0, 1.0), 460.0),
        (Moment("boot-2", 5.0, 10_060.0), 460.0),  # started again: by the wall clock
        (Moment("boot-2", 5.0, 13_600.0), 4_000.0),  # however long it was off: it may have been billed
        (Moment("boot-2", 5.0, 9_000.0), 400.0),  # set back: never less than before
        (Moment("boot-1", 4.0, 10_060.0), 460.0),  # a clock that runs backwards is another boot's
        (Moment("", 560.0, 10_060.0), 460.0),
    ],
)
def test_a_second_start_goes_on_counting(now: Moment, billed_s: float) -> None:
    kept = Kept(ORDER.identity(), THEN, billed_s=400.0)
    assert billed_at(ORDER, kept, now, arrived_at=9_000.0) == billed_s


@pytest.mark.parametrize("kept", [None, Kept("of the attempt before", THEN, billed_s=7_000.0)])
def test_a_first_start_counts_from_the_order(kept: Kept | None) -> None:
    assert billed_at(ORDER, kept, Moment("boot-1", 560.0, 9_030.0), arrived_at=9_000.0) == 130.0


def clock(folder: Path, order: Order) -> Clock:
    return Clock(folder / "watchdog.json", order, order_path=folder / "order.json")


def test_what_is_kept_is_gone_on_from(tmp_path: Path) -> None:
    first = clock(tmp_path, an_order("true", billed_s=3_000.0, written_at=1.0))
    assert not first.goes_on
    first.keep()
    second = clock(tmp_path, an_order("true", billed_s=3_000.0, written_at=1.0))
    assert second.goes_on
    assert second.billed_s() == pytest.approx(first.billed_s(), abs=0.5)
    assert json.loads((tmp_path / "watchdog.json").read_text())["spent_usd"] == 0.0


def test_a_resumed_run_counts_by_its_own_order(tmp_path: Path) -> None:
    clock(tmp_path, an_order("true", billed_s=3_000.0)).keep()
    resumed = clock(tmp_path, an_order("true", billed_s=3_100.0))
    assert not resumed.goes_on
    assert resumed.billed_s() == pytest.approx(3_100.0, abs=5)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"order_id": 1, "moment": [], "billed_s": "x"}', '{"moment": 5}']
)
def test_what_cannot_be_read_counts_as_nothing_kept(text: str, tmp_path: Path) -> None:
    (tmp_path / "watchdog.json").write_text(text)
    assert read_kept(tmp_path / "watchdog.json") is None


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "-1", "1e999"])
def test_a_count_that_is_no_number_of_seconds_is_nothing_kept(number: str, tmp_path: Path) -> None:
    moment = '{"boot_id": "b", "monotonic": 1.0, "wall": 2.0}'
    (tmp_path / "watchdog.json").write_text(f'{{"order_id": "o", "moment": {moment}, "billed_s": {number}}}')
    assert read_kept(tmp_path / "watchdog.json") is None


def test_a_full_disk_loses_no_second(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False).returncode != 0:
        pytest.skip("needs root, to mount a small disk")
    try:
        order = an_order("true", billed_s=50.0)
        first = clock(disk, order)
        first.keep()
        with (disk / "full").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(b"x" * 4096)
        first._kept_at = 0.0
        first.keep()  # has no room
        second = clock(disk, order)
        assert second.billed_s() == pytest.approx(first.billed_s(), abs=0.5)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
