"""Limit the batches that loader processes prepare ahead: they hand them over in shared memory.

Containers often have little of it. Where it runs out a batch is lost, and the training process waits for it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path("/dev/shm")
_PREFETCH = 4  # most batches of each process
# Share of the free bytes; the rest is for the other loader, and for batches that the training process still holds.
_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class LoaderBudget:
    """`workers` processes, each with `prefetch` batches ahead. `shortage`: why there are fewer than were wanted."""

    workers: int
    prefetch: int
    shortage: str | None = None


def loader_budget(wanted: int, *, batch_bytes: int, processes: int = 1, free: int | None = None) -> LoaderBudget:
    """Return as many of `wanted` workers as shared memory has room for; none where not even two batches fit.

    `processes`: training processes that share the memory of this machine. `free`: bytes; None: asked of the system.
    """
    free = _free() if free is None else free
    if wanted == 0 or free is None:
        return LoaderBudget(wanted, _PREFETCH)
    room = int(free * _SHARE) // max(1, batch_bytes * processes)
    if room >= wanted * _PREFETCH:
        return LoaderBudget(wanted, _PREFETCH)
    if room >= wanted:
        return LoaderBudget(wanted, room // wanted)
    shortage = f"shared memory ({_FOLDER}) has {free / 1e6:.0f} MB free, and a batch takes {batch_bytes / 1e6:.1f} MB"
    return LoaderBudget(room if room > 1 else 0, 1, shortage)


def _free() -> int | None:
    return shutil.disk_usage(_FOLDER).free if _FOLDER.is_dir() else None
