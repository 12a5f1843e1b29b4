"""Start the trackers' processes beside a run, and end them within a bounded time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from cloudrun.recipe.train_config import TrackerName, TrainConfig
from trainer.errors import StoppedEarly

# After the run, its last rows are sent for so long; a machine that has to be given back waits less.
_LAST_ROWS_S = 15.0
_LAST_ROWS_OF_STOPPED_S = 5.0


@contextmanager
def tracked(config: TrainConfig, *, out: Path, say: Callable[[str], None], is_main: bool) -> Iterator[None]:
    """Pass on what is written to metrics.jsonl in `out` meanwhile to `config.trackers`. Never raises for a tracker."""
    names = config.trackers if is_main else ()
    processes = {name: _start(name, out, config) for name in names}
    patience_s = _LAST_ROWS_S
    try:
        yield
    except StoppedEarly:
        patience_s = _LAST_ROWS_OF_STOPPED_S
        raise
    finally:
        _end(processes, patience_s=patience_s, say=say)


def run_name(out: Path, config: TrainConfig) -> str:
    """Return the run's name for trackers: cloudrun's, else that of its folder; each fold is a run of its own."""
    whole = out.absolute().parent if config.folds and out.name.startswith("fold-") else out.absolute()
    name = os.environ.get("CLOUDRUN_RUN_ID") or whole.name
    return name if whole == out.absolute() else f"{name}-{out.name}"


def _start(name: str, out: Path, config: TrainConfig) -> subprocess.Popen[bytes]:
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer.trackers", name, str(out), run_name(out, config)],
        stdin=subprocess.PIPE,  # its end tells the tracker that the run has ended, however that comes about
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert process.stdin is not None
    with suppress(OSError):  # it has ended already
        process.stdin.write(json.dumps(config.model_dump(mode="json")).encode() + b"\n")
        process.stdin.flush()
    return process


def _end(
    processes: Mapping[TrackerName, subprocess.Popen[bytes]], *, patience_s: float, say: Callable[[str], None]
) -> None:
    for process in processes.values():
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.write(b"\n")  # a process that was forked meanwhile may hold the pipe open
            process.stdin.close()
    until = time.monotonic() + patience_s
    for name, process in processes.items():
        try:
            process.wait(max(until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            say(f"warning: {name} has not taken all figures within {patience_s:g} s: metrics.jsonl has them")
