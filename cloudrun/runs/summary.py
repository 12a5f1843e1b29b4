"""Say in a line or two how good the model of a fetched run is."""

from __future__ import annotations

from pathlib import Path

from cloudrun.state.received import summary_at


def accuracy_text(folder: Path) -> str:
    """Return `accuracy  97.2 % on test, 96.0 % on validation (epoch 5)`; empty where there is no summary.

    Where an image may have several labels, a line `macro F1` stands before it.
    """
    summary, _ = summary_at(folder)
    epoch = f" (epoch {summary.best_epoch})" if summary.best_epoch is not None else ""
    where = " out of fold" if summary.is_of_folds else f" on validation{epoch}"
    lines = [
        _line("macro F1", _number(summary.test_macro_f1), _number(summary.val_macro_f1), where),
        _line("accuracy", _percent(summary.test_accuracy), _percent(summary.val_accuracy), where),
    ]
    return "\n".join(filter(None, lines))


def score_text(folder: Path) -> str:
    """Return the validation score in a word: accuracy, or macro F1 where an image may have several labels."""
    summary, _ = summary_at(folder)
    return _number(summary.val_macro_f1) or _percent(summary.val_accuracy)


def _line(name: str, test: str, val: str, where: str) -> str:
    parts = [f"{test} on test"] if test else []
    parts += [f"{val}{where}"] if val else []
    return f"{name}  {', '.join(parts)}" if parts else ""


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
