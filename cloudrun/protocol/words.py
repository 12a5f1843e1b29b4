"""The words of the protocol, each a text in JSON: why a run ends, what its worker does, who ends its machine."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import TypeVar


class Word(str, Enum):
    """A text of the protocol; printed, and written to JSON, as that text."""

    def __str__(self) -> str:
        return str(self.value)


AnyWord = TypeVar("AnyWord", bound=Word)


def word_of(kind: type[AnyWord], value: object) -> AnyWord | None:
    """Return the word for `value`; None where it is not a word of this kind, such as a word of a newer worker."""
    try:
        return kind(value)
    except ValueError:
        return None


class EndReason(Word):
    """Why a run has ended: `reason` in `result.json`, and in a request to stop."""

    FINISHED = "finished"
    FAILED = "failed"
    BUDGET = "budget"  # its budget is used, or would be
    STOPPED = "stopped"  # somebody asked
    PREEMPTED = "preempted"  # the provider takes the machine back
    NO_GPU = "no_gpu"  # not the GPU that was asked for
    SETUP_FAILED = "setup_failed"
    NO_DATA = "no_data"  # the data did not come
    STALLED = "stalled"  # no training step for too long

    @property
    def exit_code(self) -> int:
        """The worker's exit code where it is asked to stop for this reason."""
        is_early = self in (EndReason.STOPPED, EndReason.BUDGET, EndReason.PREEMPTED)
        return JobExit.STOPPED_EARLY if is_early else JobExit.FAILED


class WorkerPhase(Word):
    """What the worker does: `phase` in `status.json`, and the names of the phases in `result.json`."""

    START = "start"  # it has only just begun; never recorded
    VERIFY = "verify"  # the GPU
    PREPARE = "prepare"  # set-up, while the data arrive
    SYNC = "sync"  # set up, and waiting for the rest of the data
    WAIT = "wait"  # for the other machines
    RUN = "run"  # the job's command


class MachineEnding(Word):
    """Who can end the machine from within: `ending` in `order.json`."""

    SLURM = "slurm"  # its allocation is cancelled
    SKYPILOT = "skypilot"
    COMMAND = "command"  # a command of its owner's, `end_command` in the order
    NOBODY = "nobody"  # this computer, or another machine of the run


class OnFinish(Word):
    """What becomes of the machine when the job has ended and its results are safe."""

    DOWN = "down"
    STOP = "stop"  # not supported yet
    KEEP = "keep"


class NodeState(Word):
    """What one of the other machines of a run does."""

    PREPARING = "preparing"
    READY = "ready"
    ENDED = "ended"


class NodeTask(Word):
    """What the first machine tells another one to do."""

    WAIT = "wait"
    BEGIN = "begin"
    STOP = "stop"
    LEAVE = "leave"


class WorkerCommand(Word):
    """The word after RUN_DIR in `python -m cloudrun.worker RUN_DIR WORD`; without one the machine is watched."""

    ATTEMPT = "attempt"  # do the work
    WATCH = "watch"  # watch the machine, outside the SkyPilot job
    BEGIN = "begin"  # start to watch, before there is a SkyPilot job


class JobExit(IntEnum):
    """Exit codes of the job's command and of the worker's processes."""

    DONE = 0
    FAILED = 1
    BUG = 70  # the worker itself failed
    STOPPED_EARLY = 75  # stopped, with a complete checkpoint; the trainer's, and any command's that keeps to it
    NO_BOTO3 = 78  # of the uploader: its Python is not set up yet


TRAIN_STEP = "train"
"""The name of the step that runs the bundled trainer, which tells of each training step that it makes."""
RUN_STEP = "run"
"""The name of the step that runs a command of the user's own, which may be silent for hours."""
YES = b"yes"
NO = b"no"
"""What `answer` may hold."""
