"""The files of a folder on this computer, as `find -L` lists them on another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path) -> Iterator[Path]:
    """Links are followed; a folder that has been seen, under whatever name, is not gone through again."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in names:
            path = Path(place) / name
            if path.is_file():
                yield path
