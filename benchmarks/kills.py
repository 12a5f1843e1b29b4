"""Kills at random instants of a small run on this computer, each resumed; does it end with the same numbers?

`kill -9` and SIGTERM by turns, to the trainer and its loader; a new run begins whenever one has finished. Trainers are
forked from this process, so that torch is imported once.

python -m benchmarks.kills [KILLS] [SECONDS]
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import yaml

import trainer.engine  # noqa: F401  here, so that the forked trainers have it
from benchmarks.machine import heading
from trainer.cli import main as trainer_main
from trainer.errors import DONE, STOPPED_EARLY
from trainer.leaves import write_leaves

BUG = 70
TINY = {
    "backbones": ["test_resnet"], "pretrained": False, "image_size": 32, "epochs": 4, "batch_size": 8,
    "warmup_epochs": 1, "device": "cpu", "workers": 1, "checkpoint_minutes": 0.002,
}  # fmt: skip


def main(kills: int, seconds: float) -> None:
    began, dice, folder = time.monotonic(), random.Random(0), Path(tempfile.mkdtemp(prefix="kills-", dir="/tmp"))
    write_leaves(folder / "data", train=96, val=24, test=24, size=48)
    (folder / "c.yaml").write_text(yaml.safe_dump(TINY))
    run_s = wait(start(folder, "whole"))[1]
    whole = result(folder / "whole")
    ends: Counter[str] = Counter()
    runs = equal = number = 0
    longest_stop_s = 0.0
    while number < kills and time.monotonic() - began < seconds:
        runs += 1
        name = f"run{runs}"
        while True:
            trainer_pid = start(folder, name)
            time.sleep(dice.uniform(0, run_s / 2))  # or most would have ended by themselves
            kind = (signal.SIGKILL, signal.SIGTERM)[number % 2]
            with suppress(ProcessLookupError):  # it may have ended by itself
                os.killpg(trainer_pid, kind)
            code, took_s = wait(trainer_pid)
            if code == DONE:
                break
            number += 1
            ends[f"{kind.name}, exit {code}"] += 1
            if code not in (-kind, STOPPED_EARLY):
                sys.exit(f"{name}: exit {code} after {kind.name}; see {folder / name}.log")
            if kind == signal.SIGTERM:
                longest_stop_s = max(longest_stop_s, took_s)
        equal += result(folder / name) == whole
    print(f"{heading()}; a run alone takes {run_s:.1f} s")
    print("| kills | by signal and exit code | runs | equal bit for bit | longest from SIGTERM to the end, s |")
    print("| --- | --- | --- | --- | --- |")
    print(f"| {number} | {', '.join(f'{end}: {ends[end]}' for end in sorted(ends))} | {runs} | {equal} "
          f"| {longest_stop_s:.1f} |")  # fmt: skip
    if equal < runs:
        sys.exit(f"{runs - equal} run(s) ended with other numbers: {folder}")


def start(folder: Path, name: str) -> int:
    """Process id, and process group, of a trainer whose log is `name`.log."""
    child = os.fork()
    if child == 0:
        os.setsid()
        log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        words = ["train", "--config", folder / "c.yaml", "--data", folder / "data", "--out", folder / name]
        code = BUG
        try:
            code = trainer_main([str(word) for word in words])
        except Exception:  # noqa: BLE001  a bug: it must not go on as a copy of this benchmark
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def wait(child: int) -> tuple[int, float]:
    """Exit code (-9: killed) and seconds until then."""
    began = time.monotonic()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, time.monotonic() - began


def result(out: Path) -> Any:
    """All that a run ends with, but what depends on the clock."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    metrics = [{key: row[key] for key in row if key not in ("time", "images_per_s")} for row in rows]
    weights = {}
    for name in ("best.pt", "last.pt"):
        state = torch.load(out / "checkpoints" / name, weights_only=True)["model"]
        weights[name] = {key: value.numpy().tobytes() for key, value in state.items()}
    summary = json.loads((out / "summary.json").read_text())
    scores = {key: summary[key] for key in ("best_epoch", "best_metric", "val_accuracy", "test_accuracy")}
    return metrics, weights, scores, (out / "predictions.csv").read_bytes()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200, float(sys.argv[2]) if len(sys.argv) > 2 else 600)
