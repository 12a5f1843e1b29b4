"""Names for jobs and data sets. Pure."""

from __future__ import annotations

from pathlib import Path


def name_from(path: Path) -> str:
    """A valid job name from the file's: `My Plants.yaml` -> `my-plants`."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in path.stem.lower())
    return ("-".join(part for part in kept.split("-") if part).lstrip("0123456789-") or "job")[:40].rstrip("-")
