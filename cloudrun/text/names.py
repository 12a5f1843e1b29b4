"""Make names for jobs and data sets, and for files that cannot keep their own names. Pure."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from pathlib import Path

RENAMED = "renamed"
"""The folder of files that could not keep their names."""

_KEPT_LETTERS = 50


def renamed(key: str) -> str:
    """Return a safe name: `out/a/../b.txt` -> `renamed/0f3c...-b.txt`. Short, in one folder, and no other file's."""
    last = key.rpartition("/")[2].replace("\0", "_")[-_KEPT_LETTERS:].lstrip(".") or "file"
    return f"{RENAMED}/{hashlib.sha256(os.fsencode(key)).hexdigest()[:16]}-{last}"


def shortened(text: str, longest: int = 80) -> str:
    """Return `text` with `...` in place of its middle where it is longer than `longest`."""
    if len(text) <= longest:
        return text
    kept = longest - 3
    return f"{text[: kept - kept // 3]}...{text[len(text) - kept // 3 :]}"


def name_from(path: Path) -> str:
    """Return a valid job name from a file's name: `My Plants.yaml` -> `my-plants`.

    Letters lose their accents. A name in another script becomes `job-` and a few characters of its hash: two such names
    differ.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", path.stem.lower()) if not unicodedata.combining(c))
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in plain)
    name = ("-".join(part for part in kept.split("-") if part).lstrip("0123456789-"))[:40].rstrip("-")
    if not name and not path.stem.isascii():
        return f"job-{hashlib.sha256(os.fsencode(path.stem)).hexdigest()[:6]}"
    return name or "job"
