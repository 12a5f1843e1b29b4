"""Stop the trainer's own command line and continue it, on the device and on the CPU in turn."""

from __future__ import annotations

import csv
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.gpu.checks import TINY, Bench
from benchmarks.gpu.with_parent import command_with_parent, environment_with_parent
from benchmarks.machine import CHECKOUT

_PATIENCE_S = 90.0
_STOPPED_EARLY = 75
_MANY_EPOCHS = 5000


@dataclass(frozen=True, slots=True)
class Found:
    """A figure of a check; `value` is None where it could not be had, and `note` says why."""

    name: str
    value: float | None
    limit: float
    note: str = ""


class Commands:
    """Runs `python -m trainer` on a bench's data; `folder` gets configs, logs and outputs."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self._bench, self._folder = bench, folder
        folder.mkdir(parents=True, exist_ok=True)

    def stopped_and_gone_on_with(self) -> Iterator[Found]:
        """Stop in an epoch on the device, continue on the CPU and stop there, end on the device, predict on both."""
        out, device = "run", self._bench.device
        code, log = self._train(out, device=device, epochs=_MANY_EPOCHS, stop_at="epoch 2/")
        yield self._code("SIGTERM in an epoch", code, _STOPPED_EARLY, log)
        before = self._losses(out)
        code, log = self._train(out, device="cpu", epochs=_MANY_EPOCHS, stop_at=f"epoch {len(before) + 2}/")
        yield self._code("and on the CPU", code, _STOPPED_EARLY, log)
        done = len(self._losses(out))
        code, log = self._train(out, device=device, epochs=done + 1)
        yield self._code("back to the device, to the end", code, 0, log)
        after = self._losses(out)
        if before and len(after) > len(before):
            yield Found("loss after two changes of device, of that before", after[-1] / before[-1], 1.25)
        yield self._predictions(out)

    def stopped_while_it_compiles(self) -> Iterator[Found]:
        """Stop while the model is compiled: the checkpoint of the beginning has to be complete."""
        code, log = self._train(
            "tuned", device=self._bench.device, epochs=2, compile="on", stop_at="compiling, some", wait_s=1.0
        )
        yield self._code("SIGTERM while it compiles", code, _STOPPED_EARLY, log)
        there = (self._folder / "tuned" / "checkpoints" / "last.pt").exists()
        yield Found("checkpoint after it", float(not there), 0)

    def _train(
        self, out: str, *, device: str, epochs: int, stop_at: str | None = None, wait_s: float = 0.0, **changes: Any
    ) -> tuple[int | None, Path]:
        """Train to the end, or stop once the log has `stop_at`; return the exit code (None: it hung) and the log."""
        config = self._folder / f"{out}.yaml"
        config.write_text(yaml.safe_dump({**TINY, "device": device, "epochs": epochs, **changes}))
        log = self._folder / f"{out}-{device}-{epochs}.log"
        command = ["train", "--config", str(config), "--data", str(self._bench.data), "--out", str(self._folder / out)]
        with log.open("w") as said:
            process = self._start(command, said)
            try:
                if stop_at is not None and _wait(lambda: stop_at in log.read_text() or process.poll() is not None):
                    time.sleep(wait_s)
                    process.send_signal(signal.SIGTERM)
                return process.wait(_PATIENCE_S), log
            except subprocess.TimeoutExpired:
                return None, log
            finally:
                process.kill()
                process.wait()

    def _predictions(self, out: str) -> Found:
        name = "predictions of the device against the CPU's"
        tables = []
        for device in (self._bench.device, "cpu"):
            to = self._folder / f"predictions-{device}.csv"
            best = self._folder / out / "checkpoints" / "best.pt"
            command = ["predict", "--checkpoint", str(best), "--data", str(self._bench.data), "--device", device]
            log = self._folder / f"predict-{device}.log"
            with log.open("w") as said:
                process = self._start([*command, "--out", str(to)], said)
                try:
                    process.wait(_PATIENCE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
            if process.returncode != 0 or not to.exists():
                return Found(name, None, 0.02, _last_line(log))
            tables.append(_probabilities(to))
        return Found(name, float((tables[0] - tables[1]).abs().max()), 0.02)

    def _start(self, command: list[str], said: Any) -> subprocess.Popen[bytes]:
        whole = command_with_parent("trainer", *command)
        return subprocess.Popen(whole, cwd=CHECKOUT, env=environment_with_parent(), stdout=said, stderr=said)

    def _losses(self, out: str) -> list[float]:
        path = self._folder / out / "metrics.jsonl"
        rows = [yaml.safe_load(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [float(row["loss"]) for row in rows if row["kind"] == "train"]

    @staticmethod
    def _code(name: str, code: int | None, expected: int, log: Path) -> Found:
        if code is None:
            return Found(name, None, 0, f"hung; {_last_line(log)}")
        note = "" if code == expected else f"exit code {code} instead of {expected}: {_last_line(log)}"
        return Found(name, float(abs(code - expected)), 0, note)


def _wait(is_so: Callable[[], bool]) -> bool:
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        if is_so():
            return True
        time.sleep(0.05)
    return False


def _last_line(log: Path) -> str:
    return (log.read_text().strip().splitlines() or ["no word"])[-1][:200]


def _probabilities(path: Path) -> torch.Tensor:
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    return torch.tensor([[float(value) for value in row[3:]] for row in rows[1:]])
