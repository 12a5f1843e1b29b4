"""What a fetched run says of itself, in a line."""

from __future__ import annotations

import json
from pathlib import Path


def accuracy_text(folder: Path) -> str:
    """`accuracy  97.2 % on test, 96.0 % on validation (epoch 5)`; empty where there is no summary."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return ""
    parts = []
    if summary.get("test_macro_f1") is not None:
        parts.append(f"macro F1 {summary['test_macro_f1']:.4f} on test")
    if summary.get("val_macro_f1") is not None:
        parts.append(f"macro F1 {summary['val_macro_f1']:.4f} on validation")
    if summary.get("test_accuracy") is not None:
        parts.append(f"{summary['test_accuracy']:.1%} on test")
    if summary.get("val_accuracy") is not None:
        parts.append(f"{summary['val_accuracy']:.1%} on validation (epoch {summary.get('best_epoch')})")
    return f"accuracy  {', '.join(parts)}" if parts else ""
