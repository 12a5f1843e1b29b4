"""Runs of the trainer in tests: a config of seconds, a stop at a chosen step, and the comparison of two runs."""

from __future__ import annotations

import csv
import json
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cloudrun.recipe.train_config import TrainConfig
from trainer.distributed.stop import StopFlag

TINY = {
    "backbones": ["test_efficientnet", "test_resnet"],
    "pretrained": False,
    "image_size": 32,
    "epochs": 3,
    "batch_size": 8,
    "warmup_epochs": 1,
    "device": "cpu",
    "workers": 0,
}
# Batches of 6 images, without dropout: compiled code draws its random numbers otherwise.
COMPILED: dict[str, Any] = {"backbones": ["test_resnet"], "batch_size": 6, "dropout": 0, "compile": True, "lr": 1e-4}
CAN_COMPILE = shutil.which("g++") is not None and (Path(sysconfig.get_path("include")) / "Python.h").exists()

Config = Callable[..., TrainConfig]
Train = Callable[..., dict[str, Any]]


class StopsAfter(StopFlag):
    """A stop flag that is set at its `asked`-th question: once a step, and once a batch of an evaluation."""

    def __init__(self, asked: int) -> None:
        super().__init__()
        self._left = asked

    def raise_if_set(self) -> None:
        self._left -= 1
        if self._left < 0:
            self.signal_name = "SIGTERM"
        super().raise_if_set()


def rows(out: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl without what depends on the clock."""
    read = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    timed = ("time", "images_per_s", "wait_share")
    return [{key: value for key, value in row.items() if key not in timed} for row in read]


def weights(out: Path, name: str = "last.pt") -> dict[str, torch.Tensor]:
    state = torch.load(out / "checkpoints" / name, weights_only=True)
    model: dict[str, torch.Tensor] = state["model"]
    return model


def assert_same_run(out: Path, other: Path) -> None:
    assert rows(out) == rows(other)
    for name in ("best.pt", "last.pt"):
        some, others = weights(out, name), weights(other, name)
        assert all(torch.equal(values, others[key]) for key, values in some.items())
    assert (out / "predictions.csv").read_bytes() == (other / "predictions.csv").read_bytes()


def assert_same_predictions(path: Path, other: Path, *, within: float = 2.5e-6) -> None:
    """Compare two predictions.csv: batches of another size round otherwise, which may show in the last digit."""
    tables = []
    for one in (path, other):
        with one.open(newline="") as file:
            tables.append(list(csv.DictReader(file)))
    for row, expected in zip(*tables, strict=True):
        assert list(row) == list(expected)
        assert (row["image"], row["label"]) == (expected["image"], expected["label"])
        for name in list(row)[2:]:
            assert abs(float(row[name]) - float(expected[name])) < within, (row["image"], name)
