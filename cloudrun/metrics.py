"""`metrics.jsonl` as it comes home: the trainer's rows, or whatever a command of the user's own wrote there. Pure."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any


def parse_metrics(text: str) -> list[dict[str, Any]]:
    """The rows that say what a row has to say: kind, epoch, time; numbers where numbers are meant. Others are left out.

    A run that still goes on may have half a line at the end.
    """
    rows = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and _is_whole(row):
            rows.append(row)
    return rows


def _is_whole(row: dict[str, Any]) -> bool:
    epoch = row.get("epoch")
    if row.get("kind") not in ("train", "val") or not isinstance(epoch, int) or isinstance(epoch, bool):
        return False
    if not all(row.get(key) is None or _is_number(row[key]) for key in ("loss", "accuracy", "lr", "images_per_s")):
        return False
    try:
        moment = datetime.fromisoformat(str(row.get("time")))
    except ValueError:
        return False
    return moment.tzinfo is not None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
