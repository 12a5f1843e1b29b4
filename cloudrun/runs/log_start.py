"""Find the byte at which to begin reading a log: for its last N lines, or for the part since a moment.

A log may have gigabytes, on a machine or in a bucket: only its end is read, a piece at a time.
"""

from __future__ import annotations

import re
from datetime import datetime

from cloudrun.files.untrusted import LARGEST_RESULT_BYTES
from cloudrun.protocol.run_folder import LOG, LOG_INDEX
from cloudrun.stores import Store

_PIECE_BYTES = 65_536  # the last lines are seldom more
_LARGEST_PIECE_BYTES = 16_000_000
_ROW = re.compile(rb"^(\d{1,18}) (\d{1,18}(?:\.\d{1,9})?)$", re.MULTILINE)


def start_offset(store: Store, *, tail: int | None, since: datetime | None, index_at_home: bytes | None = None) -> int:
    """Return the byte of `log.txt` to begin with: the later one where both `tail` and `since` are given.

    `index_at_home`: the log's index of a fetched run, which is kept apart from its results.
    """
    offset = 0
    if since is not None:
        index = store.read(LOG_INDEX, limit=LARGEST_RESULT_BYTES) or index_at_home or b""
        offset = offset_since(index, since, end=store.size(LOG) or 0)
    if tail is not None:
        offset = max(offset, offset_of_tail(store, tail, floor=offset))
    return offset


def offset_of_tail(store: Store, lines: int, *, floor: int = 0) -> int:
    """Return the byte of `log.txt` at which its last `lines` lines begin; at least `floor`: nothing is read before."""
    start = end = store.size(LOG) or 0
    piece_bytes = _PIECE_BYTES
    wanted = lines  # line ends still to be found, from the end of the log on
    while wanted > 0 and start > floor:
        stop, start = start, max(start - piece_bytes, floor)
        piece = store.read(LOG, offset=start, limit=stop - start) or b""
        if stop == end and piece.endswith(b"\n"):
            piece = piece[:-1]  # this line end closes the last line, and no line begins after it
        found = piece.count(b"\n")
        if found >= wanted:
            return start + _place_from_end(piece, wanted) + 1
        wanted -= found
        piece_bytes = min(piece_bytes * 2, _LARGEST_PIECE_BYTES)
    return start


def _place_from_end(piece: bytes, nth: int) -> int:
    """Return the place of the `nth` line end, counted from the end of `piece`."""
    place = len(piece)
    for _ in range(nth):
        place = piece.rfind(b"\n", 0, place)
    return place


def offset_since(index: bytes, moment: datetime, *, end: int) -> int:
    """Return the byte before which everything was written earlier than `moment`; `end` where nothing is newer.

    `index` holds lines `offset time`: the text from `offset` to the next line's offset was written by `time`, and after
    the time of the line before. Other lines are left out; without any line the answer is 0.
    """
    found = _ROW.findall(index)
    for start, written in found:
        if float(written) >= moment.timestamp():
            return min(int(start), end)
    return end if found else 0
