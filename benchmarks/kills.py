"""Kill a small run on this computer at random instants, resume it each time, and compare its final numbers.

`kill -9` and SIGTERM go by turns to the trainer and its loader; a new run begins whenever one has finished. Trainers
are forked from this process, so that torch is imported once. With PROCESSES, that many train together, and the signal
goes to one of them alone: SIGTERM is to stop all, and after `kill -9` the others have to notice, and to end.

python -m benchmarks.kills [KILLS] [SECONDS] [PROCESSES]
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import yaml

import trainer.training.engine  # noqa: F401  here, so that the forked trainers have it
from benchmarks.machine import heading
from trainer.cli import main as trainer_main
from trainer.data.leaves import write_leaves
from trainer.errors import DONE, FAILED, STOPPED_EARLY

BUG = 70
_PATIENCE_S = 5.0  # torchrun waits 30; a process that has met the others notices in an instant
TINY = {
    "backbones": ["test_resnet"], "pretrained": False, "image_size": 32, "epochs": 4, "batch_size": 8,
    "warmup_epochs": 1, "device": "cpu", "workers": 1, "checkpoint_minutes": 0.002,
}  # fmt: skip


def main(kills: int, seconds: float, processes: int) -> None:
    began, dice, folder = time.monotonic(), random.Random(0), Path(tempfile.mkdtemp(prefix="kills-", dir="/tmp"))
    write_leaves(folder / "data", train=96, val=24, test=24, size=48)
    (folder / "c.yaml").write_text(yaml.safe_dump(TINY))
    run_s = wait(start(folder, "whole", processes))[1]
    whole = result(folder / "whole")
    ends: Counter[str] = Counter()
    runs = equal = number = 0
    longest_stop_s = 0.0
    while number < kills and time.monotonic() - began < seconds:
        runs += 1
        name = f"run{runs}"
        while True:
            trainers = start(folder, name, processes)
            time.sleep(dice.uniform(0, run_s / 2))  # after longer, most runs would have ended by themselves
            kind = (signal.SIGKILL, signal.SIGTERM)[number % 2]
            with suppress(ProcessLookupError):  # the trainer may have ended by itself
                os.killpg(dice.choice(trainers), kind)
            codes, took_s = wait(trainers)
            if set(codes) == {DONE}:
                break
            number += 1
            ends[f"{kind.name}, exit {' and '.join(map(str, sorted(codes)))}"] += 1
            # A trainer that gets SIGTERM before it listens dies of it, and the others notice, or are ended.
            left = {FAILED, DONE, -signal.SIGKILL} if -kind in codes and processes > 1 else set()
            if not set(codes) <= {-kind, STOPPED_EARLY} | left:
                sys.exit(f"{name}: exit {codes} after {kind.name}; see {folder / name}.log")
            if kind == signal.SIGTERM:
                longest_stop_s = max(longest_stop_s, took_s)
        equal += result(folder / name) == whole
    together = "" if processes == 1 else f"; {processes} processes train together"
    print(f"{heading()}; a run alone takes {run_s:.1f} s{together}")
    print("| kills | by signal and exit code | runs | equal bit for bit | longest from SIGTERM to the end, s |")
    print("| --- | --- | --- | --- | --- |")
    print(f"| {number} | {', '.join(f'{end}: {ends[end]}' for end in sorted(ends))} | {runs} | {equal} "
          f"| {longest_stop_s:.1f} |")  # fmt: skip
    if equal < runs:
        sys.exit(f"{runs - equal} run(s) ended with other numbers: {folder}")


def start(folder: Path, name: str, processes: int) -> list[int]:
    """Start trainers whose log is `name`.log; return their process ids, which are their process groups, too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [_start_one(folder, name, rank, processes, port) for rank in range(processes)]


def _start_one(folder: Path, name: str, rank: int, processes: int, port: int) -> int:
    child = os.fork()
    if child == 0:
        os.setsid()
        log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if processes > 1:
            numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
            os.environ.update({key: str(value) for key, value in numbers.items()})
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        words = ["train", "--config", folder / "c.yaml", "--data", folder / "data", "--out", folder / name]
        code = BUG
        try:
            code = trainer_main([str(word) for word in words])
        except Exception:  # noqa: BLE001  a bug: it must not go on as a copy of this benchmark
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def wait(children: Sequence[int]) -> tuple[list[int], float]:
    """Wait until all have ended; return their exit codes (-9: killed) and the seconds that it took.

    As torchrun does, ends the others some seconds after one has failed.
    """
    began = time.monotonic()
    codes: dict[int, int] = {}
    ends_at = None
    while len(codes) < len(children):
        for child in set(children) - set(codes):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                codes[child] = os.waitstatus_to_exitcode(status)
        now = time.monotonic()
        if ends_at is None and any(codes.values()):
            ends_at = now + _PATIENCE_S
        if ends_at is not None and now > ends_at:
            for child in set(children) - set(codes):
                os.killpg(child, signal.SIGKILL)
        time.sleep(0.002)
    return [codes[child] for child in children], time.monotonic() - began


def result(out: Path) -> Any:
    """Return all that a run ends with, without the numbers that depend on the clock."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    metrics = [{key: row[key] for key in row if key not in ("time", "images_per_s", "wait_share")} for row in rows]
    weights = {}
    for name in ("best.pt", "last.pt"):
        state = torch.load(out / "checkpoints" / name, weights_only=True)["model"]
        weights[name] = {key: value.numpy().tobytes() for key, value in state.items()}
    summary = json.loads((out / "summary.json").read_text())
    scores = {key: summary[key] for key in ("best_epoch", "best_metric", "val_accuracy", "test_accuracy")}
    return metrics, weights, scores, (out / "predictions.csv").read_bytes()


if __name__ == "__main__":
    asked = dict(enumerate(sys.argv[1:]))
    main(int(asked.get(0, "200")), float(asked.get(1, "600")), int(asked.get(2, "1")))
