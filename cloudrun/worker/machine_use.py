"""Sample the use of the machine and its GPUs while the job's command runs, into `machine.jsonl`.

`nvidia-smi` (which asks NVML) runs as a process of its own beside the job: it can hang or fail, and then a row has no
GPUs. Nothing here raises, waits, or ends a run.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from cloudrun.files import atomic
from cloudrun.files.untrusted import LARGEST_RESULT_BYTES, read_regular
from cloudrun.protocol.machine_use import GpuSample, MachineSample, parse_machine_use, summed_up
from cloudrun.protocol.messages import utc
from cloudrun.protocol.metrics import parse_metrics
from cloudrun.protocol.outputs import MACHINE, METRICS, SUMMARY

SAMPLE_EVERY_S = 5.0
# The rest between two queries is so many times as long as the last query took: at most 2 % of one core.
_REST_PER_QUERY = 50
_QUERY_PATIENCE_S = 20.0
# So many queries in a row that fail or hang: this machine has no GPU that can be asked.
_MOST_FAILURES = 3
_MIB = 1 << 20
_QUERY = (
    "nvidia-smi",
    "--query-gpu=index,utilization.gpu,memory.used,memory.total,power.draw,temperature.gpu",
    "--format=csv,noheader,nounits",
)


class Sampler:
    """Appends a row to `out`/machine.jsonl every few seconds; call `tend` often, and `end` once the command ended."""

    def __init__(self, out: Path, *, every_s: float = SAMPLE_EVERY_S) -> None:
        self._out = out
        self._every_s = every_s
        self._rows_from = _size(out / MACHINE)  # rows of an earlier attempt stay in front
        self._query: subprocess.Popen[bytes] | None = None
        self._asked_at = time.monotonic()
        self._due_at = self._asked_at + every_s
        self._failures = 0
        self._cpu = _cpu_times()

    def tend(self) -> None:
        """Begin a sample that is due, or write the one that has its answer."""
        with suppress(OSError, ValueError):  # a full disk, or a machine without /proc
            self._tend(time.monotonic())

    def end(self) -> list[str]:
        """Add what was measured to `summary.json`; return a line for each GPU that idled too long."""
        if self._query is not None:
            self._query.kill()
            self._query.communicate()
            self._query = None
        with suppress(OSError, ValueError):
            return self._sum_up()
        return []

    def _tend(self, now: float) -> None:
        if self._query is not None:
            if self._query.poll() is None and now - self._asked_at < _QUERY_PATIENCE_S:
                return
            self._due_at = max(self._asked_at + self._every_s, now + _REST_PER_QUERY * (now - self._asked_at))
            self._write(self._answer())
        elif now >= self._due_at:
            self._asked_at, self._due_at = now, now + self._every_s
            if not self._ask():
                self._write(())

    def _ask(self) -> bool:
        """Start a query of the GPUs; return whether there is something to ask."""
        if self._failures >= _MOST_FAILURES:
            return False
        try:
            self._query = subprocess.Popen(
                (*_QUERY, *_only_ours()), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError:
            self._failures = _MOST_FAILURES
            return False
        return True

    def _answer(self) -> tuple[GpuSample, ...]:
        assert self._query is not None
        if self._query.poll() is None:
            self._query.kill()
        said, _ = self._query.communicate()
        found = _gpus(said.decode("utf-8", "replace")) if self._query.returncode == 0 else ()
        self._query = None
        self._failures = 0 if found else self._failures + 1
        return found

    def _write(self, gpus: tuple[GpuSample, ...]) -> None:
        before, self._cpu = self._cpu, _cpu_times()
        used, whole = _memory()
        sample = MachineSample(utc(time.time()), _busy_percent(before, self._cpu), used, whole, gpus)
        if sample.cpu_percent is None and not gpus:
            return
        with (self._out / MACHINE).open("a", encoding="utf-8") as file:
            file.write(sample.as_line() + "\n")

    def _sum_up(self) -> list[str]:
        rows = read_regular(self._out / MACHINE, offset=self._rows_from, limit=LARGEST_RESULT_BYTES) or b""
        metrics = read_regular(self._out / METRICS, limit=LARGEST_RESULT_BYTES) or b""
        use = summed_up(parse_machine_use(_text(rows)), parse_metrics(_text(metrics)))
        if use is None:
            return []
        _add_to_summary(self._out / SUMMARY, use.as_plain())
        return use.findings


def _add_to_summary(path: Path, use: dict[str, Any]) -> None:
    """Add `machine` to a summary that is a JSON object; a job without such a file gets none."""
    content = read_regular(path, limit=LARGEST_RESULT_BYTES)
    summary = json.loads(content) if content is not None else None
    if isinstance(summary, dict):
        atomic.write(path, json.dumps({**summary, "machine": use}, indent=2) + "\n")


def _only_ours() -> tuple[str, ...]:
    """Return the option that leaves out the GPUs which `CUDA_VISIBLE_DEVICES` hides from the job."""
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "").replace(" ", "")
    return (f"--id={devices}",) if devices else ()


def _gpus(said: str) -> tuple[GpuSample, ...]:
    """Return the GPUs of `nvidia-smi`'s answer; `[N/A]`, `[Not Supported]` and the like are None."""
    return tuple(
        GpuSample(int(row[0]), row[1], _bytes(row[2]), _bytes(row[3]), row[4], row[5])
        for row in ([_value(cell) for cell in cells] for cells in csv.reader(said.splitlines()))
        if len(row) == 6 and row[0] is not None
    )


def _value(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _bytes(mebibytes: float | None) -> float | None:
    return None if mebibytes is None else mebibytes * _MIB


def _cpu_times() -> tuple[float, float] | None:
    """Return (busy, all) of the machine's cores since it started, in clock ticks; None without Linux's /proc."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
    except OSError:
        return None
    ticks = [float(word) for word in first.split()[1:9]]  # user, nice, system, idle, iowait, irq, softirq, steal
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _busy_percent(before: tuple[float, float] | None, after: tuple[float, float] | None) -> float | None:
    if before is None or after is None or after[1] <= before[1]:
        return None
    return round(max(0.0, 100 * (after[0] - before[0]) / (after[1] - before[1])), 1)


def _memory() -> tuple[float | None, float | None]:
    """Return (used, whole) memory of the machine in bytes; None for both without Linux's /proc."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None, None
    kibibytes = {words[0]: float(words[1]) for words in map(str.split, lines) if len(words) > 1}
    whole, free = kibibytes.get("MemTotal:"), kibibytes.get("MemAvailable:")
    if whole is None or free is None:
        return None, None
    return (whole - free) * 1024, whole * 1024


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")
