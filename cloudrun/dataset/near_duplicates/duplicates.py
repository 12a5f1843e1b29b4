"""Files with the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path


def duplicates(files: Sequence[Path]) -> list[tuple[int, ...]]:
    """Groups of two and more of `files`, by index, that hold the same bytes.

    Only files of one size are read.
    """
    by_size: dict[int, list[int]] = {}
    for index, path in enumerate(files):
        by_size.setdefault(path.stat().st_size, []).append(index)
    by_digest: dict[bytes, list[int]] = {}
    for same_size in by_size.values():
        if len(same_size) > 1:
            for index in same_size:
                by_digest.setdefault(hashlib.sha256(files[index].read_bytes()).digest(), []).append(index)
    return sorted(tuple(group) for group in by_digest.values() if len(group) > 1)
