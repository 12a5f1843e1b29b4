"""Where to begin reading a log: the last N lines, or what is newer than a moment."""

from __future__ import annotations

import re
from datetime import datetime

from cloudrun.protocol.run_folder import LOG, LOG_INDEX
from cloudrun.stores import Store
from cloudrun.untrusted import LARGEST_RESULT_BYTES

_ROW = re.compile(rb"^(\d{1,18}) (\d{1,18}(?:\.\d{1,9})?)$", re.MULTILINE)


def start_offset(store: Store, *, tail: int | None, since: datetime | None, index_at_home: bytes | None = None) -> int:
    """Byte of `log.txt` to begin with; the later one where both are asked for. A fetched run has its index apart."""
    offset = 0
    if since is not None:
        index = store.read(LOG_INDEX, limit=LARGEST_RESULT_BYTES) or index_at_home or b""
        offset = offset_since(index, since, end=len(store.read(LOG) or b""))
    if tail is not None:
        offset = max(offset, offset_of_tail(store.read(LOG) or b"", tail))
    return offset


def offset_of_tail(content: bytes, lines: int) -> int:
    """Byte at which the last `lines` lines begin."""
    if lines == 0:
        return len(content)
    end = len(content) - 1 if content.endswith(b"\n") else len(content)
    for _ in range(lines):
        end = content.rfind(b"\n", 0, end)
        if end == -1:
            return 0
    return end + 1


def offset_since(index: bytes, moment: datetime, *, end: int) -> int:
    """Byte from which on everything was written at `moment` or later.

    `index` holds lines `offset time`: what stands at `offset` and after was written by `time`. Others are left out.
    """
    found = _ROW.findall(index)
    for start, written in found:
        if float(written) >= moment.timestamp():
            return min(int(start), end)
    return end if found else 0
