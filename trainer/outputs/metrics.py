"""Write metrics.jsonl: a JSON object a line; a resumed run writes no row twice. TensorBoard's file has the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer.atomic import replacing
from trainer.outputs.tensorboard import EventFile


class MetricsLog:
    """Append rows to `path`. `text` is the whole content: checkpoints keep it, and resuming restores it."""

    def __init__(self, path: Path | None, text: str = "") -> None:
        """Start `path` with `text`, whatever it contained: rows after the checkpoint will be written again.

        None: keep rows in memory.
        """
        self._path = path
        self.text = text
        if path is not None:
            with replacing(path) as file:
                file.write(text.encode())
        self._events = None if path is None else EventFile(path.parent / "tensorboard", self.rows())

    def append(  # noqa: PLR0913 - the fields of one row, each by its name
        self,
        kind: str,
        *,
        epoch: int,
        step: int,
        loss: float,
        accuracy: float,
        lr: float,
        images_per_s: float,
        macro_f1: float | None = None,
        metric: tuple[str, float] | None = None,
        wait_share: float | None = None,
    ) -> None:
        """Append a row. `kind`: train or val; `epoch` counts from 1, `step` is the number of optimizer steps so far.

        `macro_f1`: only where an image may have several classes. `metric`: name and value of the competition's, where
        it is another. `wait_share`: only of train, the share of the epoch in which steps waited for images.
        """
        row = {
            "kind": kind,
            "epoch": epoch,
            "step": step,
            "loss": loss,
            "accuracy": accuracy,
            **({} if macro_f1 is None else {"macro_f1": macro_f1}),
            **({} if metric is None else {metric[0]: metric[1]}),
            "lr": lr,
            "images_per_s": round(images_per_s, 2),
            **({} if wait_share is None else {"wait_share": round(wait_share, 4)}),
            "time": now_utc(),
        }
        line = json.dumps(row) + "\n"
        self.text += line
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
        if self._events is not None:
            self._events.append(row)

    def rows(self) -> list[Mapping[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


def now_utc() -> str:
    """Return the time in ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
