"""Write times, sizes and moments as a person reads them."""

from __future__ import annotations

from datetime import datetime


def duration(seconds: float | None) -> str:
    """Return `8.2 s`, `3 min 05 s`, `1 h 20 min`; `-` for None."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def brief_duration(seconds: float) -> str:
    """`8s`, `3m`, `1h20`, `5d`: where there is little room."""
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}" if hours < 48 else f"{round(hours / 24)}d"


def age(seconds: float) -> str:
    """`3 min 05 s`, `12 h 20 min`, `5 days`, `8 months`: how old something is, as exactly as it matters."""
    days = round(seconds / 86400)
    if days < 2:
        return duration(seconds)
    return f"{days} days" if days < 100 else f"{round(days / 30.4)} months"


def size(count: float) -> str:
    """Return `512 B`, `1.5 kB`, `2.3 MB`, `1.10 GB` (powers of 1000)."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def times(count: int, text: str) -> str:
    """Return `2 x A100:1`; the text alone for a count of 1."""
    return text if count == 1 else f"{count} x {text}"


def iso(moment: datetime | None) -> str | None:
    """Return ISO 8601 with `Z` for UTC; None for None."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
