"""Names for jobs and data sets, and for files whose own name can be none. Pure."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from pathlib import Path

RENAMED = "renamed"
"""The folder of files that could not keep their names."""

_KEPT_LETTERS = 50


def renamed(key: str) -> str:
    """`out/a/../b.txt` -> `renamed/0f3c...-b.txt`: short, below its folder, and no other file's."""
    last = key.rpartition("/")[2].replace("\0", "_")[-_KEPT_LETTERS:].lstrip(".") or "file"
    return f"{RENAMED}/{hashlib.sha256(os.fsencode(key)).hexdigest()[:16]}-{last}"


def name_from(path: Path) -> str:
    """A valid job name from the file's: `My Plants.yaml` -> `my-plants`.

    Letters lose their accents. A name in another script becomes `job-` and a few characters of its hash: two such names
    differ.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", path.stem.lower()) if not unicodedata.combining(c))
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in plain)
    name = ("-".join(part for part in kept.split("-") if part).lstrip("0123456789-"))[:40].rstrip("-")
    if not name and not path.stem.isascii():
        return f"job-{hashlib.sha256(os.fsencode(path.stem)).hexdigest()[:6]}"
    return name or "job"
