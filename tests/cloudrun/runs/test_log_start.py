"""`logs --tail` and `logs --since`: where reading begins."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloudrun.runs.log_start import offset_of_tail, offset_since, start_offset
from cloudrun.stores.directory import DirectoryStore

LOG = b"one\ntwo\nthree\n"


class CountedStore(DirectoryStore):
    """A folder with a log, which counts the bytes of it that are read."""

    def __init__(self, folder: Path, log: bytes) -> None:
        super().__init__(folder)
        (folder / "log.txt").write_bytes(log)
        self.bytes_read = 0

    def read(self, key: str, *, offset: int = 0, limit: int | None = None) -> bytes | None:
        content = super().read(key, offset=offset, limit=limit)
        self.bytes_read += len(content or b"")
        return content


@pytest.mark.parametrize(
    ("lines", "shown"),
    [(0, b""), (1, b"three\n"), (2, b"two\nthree\n"), (3, LOG), (99, LOG)],
)
def test_tail_starts_at_the_last_lines(lines: int, shown: bytes, tmp_path: Path) -> None:
    assert LOG[offset_of_tail(CountedStore(tmp_path, LOG), lines) :] == shown


@pytest.mark.parametrize(
    ("log", "lines", "start"), [(b"one\ntw", 1, 4), (b"", 5, 0), (b"\n", 1, 0), (b"\n\n\n", 2, 1), (b"one", 1, 0)]
)
def test_a_line_that_is_empty_or_still_being_written_counts_as_a_line(
    log: bytes, lines: int, start: int, tmp_path: Path
) -> None:
    assert offset_of_tail(CountedStore(tmp_path, log), lines) == start


def test_a_run_without_a_log_begins_at_its_start(tmp_path: Path) -> None:
    assert start_offset(DirectoryStore(tmp_path), tail=5, since=None) == 0


def test_of_a_large_log_only_the_end_is_read(tmp_path: Path) -> None:
    rows = [b"%07d %s\n" % (number, b"x" * 90) for number in range(500_000)]  # 50 MB
    store = CountedStore(tmp_path, b"".join(rows))
    size = len(rows[0])
    assert start_offset(store, tail=10, since=None) == (500_000 - 10) * size
    assert store.bytes_read <= 70_000
    store.bytes_read = 0
    assert start_offset(store, tail=100_000, since=None) == 400_000 * size  # over several pieces
    assert store.bytes_read <= 2.5 * 100_000 * size


def test_since_reads_the_index_alone(tmp_path: Path) -> None:
    store = CountedStore(tmp_path, b"x" * 99 + b"\n" + b"y" * 1_000_000)
    (tmp_path / "log.index").write_bytes(b"0 10.0\n100 20.0\n")
    assert start_offset(store, tail=None, since=datetime.fromtimestamp(15, UTC)) == 100
    assert start_offset(store, tail=None, since=datetime.fromtimestamp(25, UTC)) == 1_000_100
    assert store.bytes_read < 100


@pytest.mark.parametrize(("second", "shown"), [(5, LOG), (10, LOG), (15, b"two\nthree\n"), (25, b"")])
def test_since_starts_at_what_was_written_then_or_later(second: int, shown: bytes) -> None:
    index = b"0 10.0\n4 20.0\n"
    moment = datetime.fromtimestamp(second, UTC)
    assert LOG[offset_since(index, moment, end=len(LOG)) :] == shown
