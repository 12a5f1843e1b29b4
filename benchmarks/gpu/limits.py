"""The parts in their order, the most telling first, and how long each may take on a fast card."""

from __future__ import annotations

import argparse

LIMITS_S = {
    "probe": 40.0,
    "smoke": 110.0,
    "tune": 70.0,
    "ceiling": 75.0,
    "compile": 130.0,
    "whole": 80.0,
    "timm": 210.0,
    "end": 70.0,
}
NO_GPU = 3
"""Exit code of a part that finds no GPU."""
# How many times as long a part may take in a rehearsal, which is not for figures: the computer may be slow or busy.
_IN_A_REHEARSAL = 5.0


def limit_s(part: str, *, rehearses: bool) -> float:
    """Return the seconds after which `part` is ended."""
    return LIMITS_S[part] * (_IN_A_REHEARSAL if rehearses else 1.0)


def parts_from(text: str) -> list[str]:
    """Return the parts named in `text`, in the order given there."""
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in LIMITS_S]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"there is no part {', '.join(unknown)}; parts are {', '.join(LIMITS_S)}")
    return names
