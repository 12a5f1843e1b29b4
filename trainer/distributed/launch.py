"""Start one process for each GPU of this machine, and watch them, with torchrun's library.

Added to that library: an error is shown once, by the process that met it first, and a run that was asked to stop ends
with the exit code of a stop. Where several machines train together each has a launcher, and they meet at the address of
the first.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from cloudrun.errors import CloudrunError
from cloudrun.recipe.train_config import TrainConfig
from trainer.distributed.nodes import ONE_NODE, Meeting, Nodes, meet, not_met, rendezvous
from trainer.distributed.ranks import PeerLost, ranks_from
from trainer.distributed.rendezvous import PeerMissing
from trainer.distributed.stop import StopFlag
from trainer.errors import FAILED, STOPPED_EARLY, ConfigError, StoppedEarly, TrainerError

_REPORTS = "CLOUDRUN_TRAINER_REPORTS"
_PARENT = "CLOUDRUN_TRAINER_PARENT"
_PR_SET_PDEATHSIG = 1
_PATIENCE_S = 60.0


def process_count(config: TrainConfig, asked: int | None, environment: Mapping[str, str] = os.environ) -> int:
    """Return how many processes to start: as `asked`, or one for each GPU. 1: this process trains.

    Raises ConfigError where there are fewer GPUs.
    """
    if "RANK" in environment:  # torchrun has started them already
        return 1
    if asked == 1 or (asked is None and config.device == "cpu"):
        return 1
    import torch

    gpus = 0 if config.device == "cpu" else torch.cuda.device_count()
    if asked is None:
        return max(1, gpus)
    if gpus and asked > gpus:
        raise ConfigError(f"{asked} processes need as many GPUs, and there are {gpus}", hint="lower `--processes`")
    return asked


def is_to_launch(processes: int, nodes: Nodes, environment: Mapping[str, str] = os.environ) -> bool:
    """Return True in a launcher, False in a training process."""
    return "RANK" not in environment and (processes > 1 or nodes.count > 1)


def launch(argv: Sequence[str], *, processes: int, nodes: Nodes = ONE_NODE, stop: StopFlag) -> int:
    """Run `python -m trainer argv` in `processes` processes of this machine; return the exit code.

    Raises TrainerError of a process that failed; StoppedEarly where they were asked to stop before all of them
    listened: they had not begun, or compiled for longer than torchrun waits.
    """
    from torch.distributed.elastic.multiprocessing import SignalException

    logging.disable(logging.CRITICAL)  # torchrun would log at length what is reported here

    def raise_signal(number: int, _: FrameType | None) -> None:
        raise SignalException("asked to stop", sigval=signal.Signals(number))

    # torchrun installs its own handlers a moment later; until then a signal must not be lost.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, raise_signal)
    stop.raise_if_set()  # a signal may have come while torch was imported
    with tempfile.TemporaryDirectory(prefix="cloudrun-trainer-") as folder:
        os.environ[_REPORTS], os.environ[_PARENT] = folder, str(os.getpid())
        try:
            met = meet(nodes, processes=processes) if nodes.count > 1 else None
        except SignalException as asked:
            raise _stopped(asked.sigval) from None
        code = FAILED
        try:
            code = _start_and_watch(argv, Path(folder), processes=processes, nodes=nodes, met=met)
        except StoppedEarly as stopped:
            code = stopped.exit_code
            raise
        finally:
            if met is not None:
                met.leave(code)
        return code


def _start_and_watch(argv: Sequence[str], folder: Path, *, processes: int, nodes: Nodes, met: Meeting | None) -> int:
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=nodes.count, max_nodes=nodes.count, nproc_per_node=processes, max_restarts=0, **rendezvous(nodes)
    )
    world = processes if met is None else met.world
    killed: list[str] = []
    try:
        elastic_launch(config, sys.executable)("-m", "trainer", *argv)
    except ChildFailedError as err:
        killed = [
            f"process {rank} of {world} (from 0) {_ending(failure.exitcode)}"
            for rank, failure in err.failures.items()
            if not _path(folder, rank).exists()
        ]
    except DistError as err:  # no process has started
        raise not_met(nodes, str(err)) from None
    except SignalException as asked:
        _end_children()
        if len(list(folder.glob("rank-*.listens"))) < processes:
            raise _stopped(asked.sigval) from None
        killed = ["the processes did not end within 30 s after the request to stop, and were killed"]
    return _outcome(_reports(folder), killed, processes=processes, nodes=nodes)


def _stopped(number: signal.Signals) -> StoppedEarly:
    return StoppedEarly(
        f"stopped by {number.name} before the next step",
        hint="the same command on the same folder continues from what is there",
    )


def report_listening(*, is_heard: bool) -> None:
    """Tell the launcher whether a signal now ends this process with a checkpoint, between two steps."""
    folder = os.environ.get(_REPORTS)
    if folder is None or "RANK" not in os.environ or not Path(folder).is_dir():
        return
    mark = Path(folder) / f"rank-{ranks_from().rank}.listens"
    if is_heard:
        mark.touch()
    else:
        mark.unlink(missing_ok=True)


def report_ending(code: int, error: CloudrunError | None = None) -> bool:
    """Tell the launcher how this process ends. Return False where there is no launcher, or it has ended."""
    folder = os.environ.get(_REPORTS)
    if folder is None or "RANK" not in os.environ or not Path(folder).is_dir():
        return False
    rank = ranks_from().rank
    ending = {
        "code": code,
        "message": error.message if error else "",
        "hint": error.hint if error else "",
        "is_echo": isinstance(error, PeerMissing) or (isinstance(error, PeerLost) and error.is_echo),
        "at": time.time(),
    }
    path = _path(Path(folder), rank)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(ending))
    unfinished.replace(path)
    return True


def end_with_parent() -> None:
    """Have this training process be asked to stop when its launcher is killed, and be ended later in any case."""
    if sys.platform != "linux" or "RANK" not in os.environ:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.environ.get(_PARENT, str(os.getppid())) != str(os.getppid()):
        os._exit(STOPPED_EARLY)  # the launcher has already ended, and nothing has begun
    threading.Thread(target=_end_long_after, args=(os.getppid(),), name="parent", daemon=True).start()


def _end_long_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(5)
    time.sleep(_PATIENCE_S)  # time for the checkpoint; to wait for the GPU of a dead peer would take for ever
    os._exit(FAILED)


def _path(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.json"


def _end_children() -> None:
    """End processes that torchrun started just as a signal came.

    torchrun does not know them yet, and would leave them running.
    """
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    for child in listed.read_text().split() if listed.exists() else ():
        with suppress(ProcessLookupError):  # a child that leads no process group is not torchrun's
            os.killpg(int(child), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class _Report:
    code: int
    message: str
    hint: str
    is_echo: bool
    at: float


def _reports(folder: Path) -> list[_Report]:
    """Return the reports of the processes in the order of time."""
    found = [_Report(**json.loads(path.read_text())) for path in folder.glob("rank-*.json")]
    return sorted(found, key=lambda one: one.at)


def _outcome(reports: Sequence[_Report], killed: Sequence[str], *, processes: int, nodes: Nodes) -> int:
    failed = [report for report in reports if report.code not in (0, STOPPED_EARLY)]
    causes = [report for report in failed if not report.is_echo]
    if causes:
        first = causes[0]
        raise _Failed(first.message, hint=first.hint, code=first.code)
    # A process that torchrun ended before it listened reports nothing: it ended because of another's stop.
    if reports and not failed and (len(reports) == processes or not killed):
        return max(report.code for report in reports)
    if not killed and nodes.count > 1:
        raise _Failed(
            f"another machine of this run has ended or is out of reach: {failed[0].message}",
            hint="see its error; the same command on all machines continues from the last checkpoint",
            code=FAILED,
        )
    what = killed[0] if killed else failed[0].message
    raise _Failed(
        what,
        hint="see the traceback above; without one, memory was short; the same command continues from the checkpoint",
        code=FAILED,
    )


class _Failed(TrainerError):
    """The error that one of the processes reported."""

    def __init__(self, message: str, *, hint: str, code: int) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = code


def _ending(exit_code: int) -> str:
    if exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"
