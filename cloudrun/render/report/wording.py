"""Numbers and names as a reader of the page sees them. Pure."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import TypeGuard

from cloudrun.text.units import duration

_LONGEST = 50_000
# Control characters, and those that turn the direction of what follows: a name could hide its ending.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def percent(value: float | None, digits: int = 1) -> str:
    """`93.4%`; a dash where there is no value."""
    return f"{value:.{digits}%}" if _is_finite(value) else "–"


def percent_tick(value: float) -> str:
    """`93%`, `99.5%`: a round number, as it stands beside an axis."""
    return f"{value * 100:.4g}%"


def number_tick(value: float) -> str:
    """`0.25`, `3e-4`, `1,500`, `25k`, `1.5M`: a round number that has little room."""
    for limit, unit in ((1e6, "M"), (1e4, "k")):
        if limit <= abs(value) < 1e9:
            return f"{value / (1e6 if unit == 'M' else 1e3):.4g}{unit}"
    return f"{value:.3g}".replace("e+0", "e").replace("e+", "e") if abs(value) >= 1e9 else short(value)


def decimal(value: float | None, digits: int = 4) -> str:
    return f"{value:.{digits}f}" if _is_finite(value) else "–"


def usd(value: float | None) -> str:
    """Cents; more digits below a dollar, where they matter."""
    if not _is_finite(value):
        return "–"
    return f"${value:,.2f}" if abs(value) >= 1 or value == 0 else f"${value:.4f}"


def cents(value: float | None) -> str:
    """`$0.31`, for a figure among others; what is below a cent is not shown as nothing."""
    if not _is_finite(value) or 0 < abs(value) < 0.01:
        return usd(value)
    return f"${value:,.2f}"


def moment(text: str | None) -> str:
    """`27 Nov 2026, 09:04:12 UTC`, of ISO 8601; what is none stays as it is."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return text or "–"
    return f"{found.astimezone(UTC):%d %b %Y, %H:%M:%S} UTC".lstrip("0")


def seconds(value: float | None) -> str:
    return duration(value) if _is_finite(value) else "–"


def short(value: float) -> str:
    """A number in four significant digits at most: `0.25`, `3e-4`, `1,234`."""
    if 0 < abs(value) < 0.001:
        digits, power = f"{value:.3e}".split("e")
        return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"
    if abs(value) >= 1000:
        return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.3g}"
    return f"{value:.4g}"


def seen(text: str) -> str:
    """`text` without characters that nobody sees or that turn the line."""
    safe = _UNSEEN.sub("\ufffd", text.encode("utf-8", "replace").decode("utf-8"))
    return safe if len(safe) <= _LONGEST else f"{safe[:_LONGEST]} ..."


def several(names: tuple[str, ...]) -> str:
    """The classes of an image, in words."""
    return " + ".join(names) if names else "no class"


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
