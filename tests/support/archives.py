"""Pack folders into archives, and list the files of a folder."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path


def zip_of(folder: Path, top: str = "") -> bytes:
    """Return a zip archive of a folder; `top` stands before each name."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            archive.write(path, f"{top}{path.relative_to(folder).as_posix()}")
    return packed.getvalue()


def tar_of(folder: Path, top: str) -> bytes:
    """Return a compressed tar archive of a folder, whose name in it is `top`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(folder, top)
    return packed.getvalue()


def names_in(folder: Path) -> set[str]:
    """Return the paths of all files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
