"""Times, sizes and moments as a person reads them."""

from __future__ import annotations

from datetime import datetime


def duration(seconds: float | None) -> str:
    """`8.2 s`, `3 min 05 s`, `1 h 20 min`; `-` for None."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def size(count: float) -> str:
    """`512 B`, `1.5 kB`, `2.3 MB`, `1.10 GB` (powers of 1000)."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def times(count: int, text: str) -> str:
    """`2 x A100:1`; the text itself for one."""
    return text if count == 1 else f"{count} x {text}"


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 with `Z` for UTC."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
