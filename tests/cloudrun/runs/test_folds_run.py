"""A job whose folds all train, one after another, on this computer: as typed."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import pytest

from tests.support.shell import Shell

JOB = """\
name: folded
infra: local
data: {source: "demo://leaves"}
train:
  {backbones: test_resnet, pretrained: false, image_size: 32, epochs: 3, batch_size: 16, warmup_epochs: 1, folds: 2,
  fold: all, device: cpu}
"""


def wait_until_log_has(shell: Shell, run_id: str, text: str) -> None:
    """Looks at the file: by a command it would be seen when a fold of seconds is nearly over."""
    log = shell.home / "local" / run_id / "log.txt"
    until = time.monotonic() + 90
    while not log.exists() or text not in log.read_text():
        assert time.monotonic() < until
        time.sleep(0.01)


def epochs_by_the_heartbeat(shell: Shell, run_id: str) -> int:
    """What `ps` says, once the worker's heartbeat (every 2 s) has carried it there: later than the log."""
    until = time.monotonic() + 90
    while True:
        row = next(one for one in shell("ps", "--json").json if one["run_id"] == run_id)
        if row["epochs"] is not None:
            return int(row["epochs"])
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_all_folds_are_one_run_that_can_be_stopped_resumed_and_fetched(shell: Shell, tmp_path: Path) -> None:
    job = shell.job(JOB.replace("epochs: 3", "epochs: 8"))  # a fold takes longer than `down` to ask it to stop
    run_id = shell("launch", "-d", job).out.strip()
    wait_until_log_has(shell, run_id, "fold 1 of 2:")
    assert shell("down", run_id).code == 0
    folder = shell.folder / "runs" / run_id
    assert (folder / "fold-0" / "oof.csv").exists()
    assert not (folder / "oof.csv").exists()

    done = shell("resume", run_id)
    assert done.code == 0, done.err
    assert "fold 0 of 2 is done" in done.err
    assert "% out of fold" in done.err
    with (folder / "oof.csv").open() as file:
        images = [row["image"] for row in csv.DictReader(file)]
    assert len(images) == len(set(images)) == 480
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["metric_name"] == "oof_accuracy"
    assert summary["val_accuracy"] == summary["out_of_fold"]["accuracy"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(row["fold"], row["epoch"]) for row in rows if row["kind"] == "val"] == [
        (fold, 8 * fold + epoch) for fold in (0, 1) for epoch in range(1, 9)
    ]
    assert json.loads((folder / "cost.json").read_text())["accuracy"] is None  # no epoch's is the run's
    assert "accuracy out of fold" in (folder / "report.html").read_text()

    assert shell("fetch", run_id, "--best", "--to", str(tmp_path / "best")).code == 0
    best = sorted(path.relative_to(tmp_path / "best").as_posix() for path in (tmp_path / "best").rglob("*.pt"))
    assert best == ["fold-0/checkpoints/best.pt", "fold-1/checkpoints/best.pt"]


@pytest.mark.slow
def test_what_is_left_counts_the_folds_to_come(shell: Shell) -> None:
    """By the corrected estimate of a run that is stopped in its first fold."""
    job = shell.job(JOB.replace("epochs: 3", "epochs: 40"))
    run_id = shell("launch", "-d", job).out.strip()
    assert epochs_by_the_heartbeat(shell, run_id) == 80
    assert shell("down", run_id).code == 0


def test_a_fold_of_no_folds_is_refused(shell: Shell) -> None:
    done = shell("check", shell.job(JOB.replace("folds: 2", "folds: 0")))
    assert done.code == 2
    assert "`fold` is all, of 0 folds" in done.err
