"""Write files that are complete or absent: under a temporary name beside their place, then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Yield a file to write that becomes `path` at the end: a kill at any instant leaves the previous file complete.

    `durable`: the file also survives the loss of power.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    with unfinished.open("wb") as file:
        yield file
        if durable:
            file.flush()
            os.fsync(file.fileno())
    unfinished.replace(path)
    if durable:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_json(path: Path, tree: Mapping[str, object], *, durable: bool = True) -> None:
    """Write `tree` as JSON to `path`."""
    with replacing(path, durable=durable) as file:
        file.write((json.dumps(tree, indent=2) + "\n").encode())
