"""What a fetched run says of itself, in a line or two."""

from __future__ import annotations

import json
from pathlib import Path


def accuracy_text(folder: Path) -> str:
    """`accuracy  97.2 % on test, 96.0 % on validation (epoch 5)`; empty where there is no summary.

    A line `macro F1` before it where an image may have several labels.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return ""
    # Of folds, each image is judged by the one that did not see it.
    is_of_folds = str(summary.get("metric_name")).startswith("oof_")
    where = " out of fold" if is_of_folds else f" on validation (epoch {summary.get('best_epoch')})"
    lines = [
        _line("macro F1", _number(summary.get("test_macro_f1")), _number(summary.get("val_macro_f1")), where),
        _line("accuracy", _percent(summary.get("test_accuracy")), _percent(summary.get("val_accuracy")), where),
    ]
    return "\n".join(filter(None, lines))


def _line(name: str, test: str, val: str, where: str) -> str:
    parts = [f"{test} on test"] if test else []
    parts += [f"{val}{where}"] if val else []
    return f"{name}  {', '.join(parts)}" if parts else ""


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
