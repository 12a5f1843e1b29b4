"""List the files of a folder on this computer as `find -L` does on a rented machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file. Links are followed; a folder that was seen, under whatever name, is not entered again."""
    return (path for path, why in _all_below(folder) if not why)


def left_out_below(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield each path that is neither a file nor a folder, or cannot be read, with the reason."""
    for path, why in _all_below(folder):
        if why:
            yield path, why
        elif not os.access(path, os.R_OK):
            yield path, "it cannot be read"


def _all_below(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield each path that is not a folder, and why it cannot be copied; an empty text for a file."""
    seen: set[tuple[int, int]] = set()
    waiting = [folder]  # not by recursion, which a thousand nested folders would break
    while waiting:
        place = waiting.pop()
        try:
            here = place.stat()
            if (here.st_dev, here.st_ino) in seen:
                continue
            seen.add((here.st_dev, here.st_ino))
            with os.scandir(place) as found:
                items = sorted(found, key=lambda item: item.name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as err:
            yield place, f"it cannot be listed: {err.strerror}"
            continue
        for item in items:
            path = place / item.name
            if _is_folder(item):
                waiting.append(path)
            else:
                yield path, _why_not(item)


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link to itself
        return False


def _why_not(item: os.DirEntry[str]) -> str:
    try:
        if item.is_file():
            return ""
        is_lost = item.is_symlink() and not os.path.exists(item.path)  # noqa: PTH110 - a path of any length
    except OSError as err:
        return err.strerror or str(err)
    return "a link that leads nowhere" if is_lost else "neither a file nor a folder"
