"""What others see of a run while it goes on."""

import io
import os
import time
from pathlib import Path

from trainer.outputs.progress import Progress


def test_an_evaluation_shows_that_the_run_is_alive(tmp_path: Path) -> None:
    progress = Progress(out=tmp_path, stream=io.StringIO())
    progress.heartbeat()  # nothing is there yet to be renewed, and nothing is made up
    assert not (tmp_path / "progress.json").exists()
    numbers = {"loss": 0.5, "images_per_s": 10.0, "eta_s": 60.0}
    Progress(out=tmp_path, stream=io.StringIO()).end_epoch(epoch=1, epochs=2, steps=5, timing={}, **numbers)
    before = (tmp_path / "progress.json").read_text()
    long_ago = time.time() - 1000
    os.utime(tmp_path / "progress.json", (long_ago, long_ago))
    Progress(out=tmp_path, stream=io.StringIO()).heartbeat()
    assert time.time() - (tmp_path / "progress.json").stat().st_mtime < 10
    assert (tmp_path / "progress.json").read_text() == before


def test_before_the_first_step_the_run_shows_by_its_metrics_that_it_is_alive(tmp_path: Path) -> None:
    metrics, long_ago = tmp_path / "metrics.jsonl", time.time() - 1000
    metrics.touch()
    os.utime(metrics, (long_ago, long_ago))
    Progress(out=tmp_path, stream=io.StringIO()).heartbeat()
    assert time.time() - metrics.stat().st_mtime < 10
    assert metrics.read_text() == ""
