"""Merge the folds' metrics and summaries into those of one run, for readers of a run's files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.atomic import replacing


def join_metrics(folders: Sequence[Path], *, epochs: int, out: Path) -> None:
    """Write one metrics.jsonl of the folds that have begun: `fold` from 0, and epochs that count on."""
    lines = []
    for fold, folder in enumerate(folders):
        path = folder / "metrics.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            row = json.loads(line)
            lines.append(json.dumps({**row, "epoch": fold * epochs + row["epoch"], "fold": fold}) + "\n")
    if lines:
        with replacing(out / "metrics.jsonl") as file:
            file.write("".join(lines).encode())


def summary_in(folder: Path) -> dict[str, Any]:
    """Return the content of the folder's summary.json."""
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return summary


def merge_summaries(parts: Sequence[dict[str, Any]], together: dict[str, Any], *, metric: str) -> dict[str, Any]:
    """Return the keys of a single run's summary, with out-of-fold values in place of validation.

    `metric`: the name of the competition's, which is among the out-of-fold values.
    """
    whole, test = together["out_of_fold"], together["test"] or {}
    trained = [part["images_per_s"] * part["train_seconds"] for part in parts]
    seconds = sum(part["train_seconds"] for part in parts)
    same = (
        "device",
        "gpu",
        "precision",
        "processes",
        "batch_size",
        "micro_batch",
        "backbones",
        "features",
        "parameters",
        "versions",
    )
    return {
        "best_epoch": None,
        "metric_name": f"oof_{metric}",
        "best_metric": whole[metric],
        "val_accuracy": whole["accuracy"],
        "test_accuracy": test.get("accuracy"),
        "test_recall": {name: rates["recall"] for name, rates in test["per_class"].items()} if test else None,
        **(
            {"val_macro_f1": whole["macro_f1"], "test_macro_f1": test.get("macro_f1")} if together["thresholds"] else {}
        ),
        "epochs": max(part["epochs"] for part in parts),
        "stopped_early": False,
        "images_per_s": round(sum(trained) / seconds, 2) if seconds else 0.0,
        "train_seconds": round(seconds, 2),
        "compile_seconds": round(sum(part.get("compile_seconds", 0.0) for part in parts), 2),
        "evaluation_seconds": round(sum(part["evaluation_seconds"] for part in parts), 2),
        "evaluated_images": sum(part["evaluated_images"] for part in parts),
        "unused_files": parts[-1].get("unused_files", []),  # all folds read the same files
        "label_columns": parts[-1].get("label_columns"),
        "soft_labels": parts[-1].get("soft_labels"),
        "unreadable_images": sorted({name for part in parts for name in part["unreadable_images"]}),
        "findings": [
            {**finding, "message": f"fold {fold}: {finding['message']}"}
            for fold, part in enumerate(parts)
            for finding in part["findings"]
        ],
        **{key: parts[-1][key] for key in same},
    }
