"""The names of a run's results: what the job writes below `out/`, and what is made beside it at home."""

from __future__ import annotations

from typing import Final

from cloudrun.protocol.run_folder import LOG, OUT, RESULT

PROGRESS: Final = "progress.json"  # the trainer's, replaced after each step or so; of no use at home
METRICS: Final = "metrics.jsonl"
MACHINE: Final = "machine.jsonl"  # the worker's: how busy the machine and its GPUs were (machine_use.py)
SUMMARY: Final = "summary.json"
PREDICTIONS: Final = "predictions.csv"
PREDICTIONS_VAL: Final = "predictions-val.csv"
OUT_OF_FOLD: Final = "oof.csv"
STACKING: Final = "stacking.json"
THUMBNAILS: Final = "thumbnails.jsonl"  # a few small pictures for the report
AUGMENTED: Final = "augmented.jsonl"  # training images as the model saw them in its first step
CHECKPOINTS: Final = "checkpoints"
BEST: Final = f"{CHECKPOINTS}/best.pt"
LAST: Final = f"{CHECKPOINTS}/last.pt"

JOB_FILE: Final = "job.yaml"  # the resolved job file
COST: Final = "cost.json"  # the receipt
REPORT: Final = "report.html"
UNREADABLE_RESULT: Final = f"{RESULT}.unreadable"
MADE_AT_HOME: Final = (LOG, JOB_FILE, COST, REPORT)

OUT_PREFIX: Final = f"{OUT}/"
METRICS_KEY: Final = f"{OUT}/{METRICS}"
"""The key of `metrics.jsonl` in a run's store."""
MACHINE_KEY: Final = f"{OUT}/{MACHINE}"
"""The key of `machine.jsonl` in a run's store."""


def below_out(key: str) -> str:
    """Return the key without `out/`: `out/checkpoints/best.pt` -> `checkpoints/best.pt`; other keys as they are."""
    return key.removeprefix(OUT_PREFIX)
