"""The folder of one run beside its job, on the machine: the name of each file, and what the file is for.

A run's bucket has the same names for the part of them that it keeps (`IN_BUCKET`). The names are keys of a `Store`;
`RunFolder` gives them as paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ORDER: Final = "order.json"  # what to do; written by the launch
CODE: Final = "code"  # cloudrun and trainer as they were at launch
WORKDIR: Final = "workdir"  # in `code`: the user's own code
TRAIN_CONFIG: Final = "train.yaml"
LABELS: Final = "labels.csv"
WEIGHTS: Final = "weights"  # pretrained weights that the launch brings along
DATA: Final = "data"
OUT: Final = "out"  # what the job writes ($CLOUDRUN_OUTPUT)

LOG: Final = "log.txt"  # everything, in order
LOG_INDEX: Final = "log.index"  # the time of each stretch of the log
STATUS: Final = "status.json"  # the worker's heartbeat
RESULT: Final = "result.json"  # written last: without it the job has not ended
ATTEMPT_PID: Final = "attempt.pid"  # the process that does the work
ATTEMPT_LOCK: Final = "attempt.lock"  # held while that process lives
JOB_PID: Final = "job.pid"  # the group of the command that runs now

STOP: Final = "stop"  # asks the worker to stop; empty from a person, with a reason from the watchdog
HOME: Final = "home"  # the results are verified at home
STORED: Final = "stored"  # the results are verified in the bucket; written by the uploader
LEAVE: Final = "leave"  # asks the watchdog to go, and to leave the machine as it is
DATA_READY: Final = "data.ready"  # the data are whole
DATA_BEAT: Final = "data.beat"  # the data are on their way; touched while they come
QUESTION: Final = "question.json"  # the corrected estimate breaks the budget: go on?
ANSWER: Final = "answer"
NOTICES: Final = "notices.json"  # which notices this attempt has sent
UPLOADS: Final = "uploads.json"  # which uploads were begun and not ended

CERTIFICATE: Final = "nodes.pem"  # of the machines that train together
READY: Final = "ready"  # this machine has all that it needs
BEGIN: Final = "begin"  # all machines have all that they need

LOCAL_LOCK: Final = "lock"  # of a run on this computer: held while its worker lives
LOCAL_PID: Final = "worker.pid"
LOCAL_ERRORS: Final = "worker.err"

DATA_SIGNS: Final = (DATA_READY, DATA_BEAT)
LEFT_BY_AN_ATTEMPT: Final = (
    RESULT, STOP, HOME, STORED, LEAVE, *DATA_SIGNS, STATUS, QUESTION, ANSWER, READY, BEGIN, JOB_PID, NOTICES,
)  # fmt: skip
"""The files that one attempt leaves. The next must not take them for its own: an old `stop` would end it."""

IN_BUCKET: Final = (OUT, LOG, LOG_INDEX, STATUS, RESULT)


@dataclass(frozen=True)
class RunFolder:
    """The files of one run by their names."""

    root: Path

    @property
    def order(self) -> Path:
        return self.root / ORDER

    @property
    def code(self) -> Path:
        return self.root / CODE

    @property
    def workdir(self) -> Path:
        return self.code / WORKDIR

    @property
    def train_config(self) -> Path:
        return self.root / TRAIN_CONFIG

    @property
    def labels(self) -> Path:
        return self.root / LABELS

    @property
    def weights(self) -> Path:
        return self.root / WEIGHTS

    @property
    def data(self) -> Path:
        return self.root / DATA

    @property
    def out(self) -> Path:
        return self.root / OUT

    @property
    def log(self) -> Path:
        return self.root / LOG

    @property
    def log_index(self) -> Path:
        return self.root / LOG_INDEX

    @property
    def status(self) -> Path:
        return self.root / STATUS

    @property
    def result(self) -> Path:
        return self.root / RESULT

    @property
    def attempt_pid(self) -> Path:
        return self.root / ATTEMPT_PID

    @property
    def attempt_lock(self) -> Path:
        return self.root / ATTEMPT_LOCK

    @property
    def job_pid(self) -> Path:
        return self.root / JOB_PID

    @property
    def stop(self) -> Path:
        return self.root / STOP

    @property
    def home(self) -> Path:
        return self.root / HOME

    @property
    def stored(self) -> Path:
        return self.root / STORED

    @property
    def leave(self) -> Path:
        return self.root / LEAVE

    @property
    def data_ready(self) -> Path:
        return self.root / DATA_READY

    @property
    def data_beat(self) -> Path:
        return self.root / DATA_BEAT

    @property
    def question(self) -> Path:
        return self.root / QUESTION

    @property
    def answer(self) -> Path:
        return self.root / ANSWER

    @property
    def notices(self) -> Path:
        return self.root / NOTICES

    @property
    def uploads(self) -> Path:
        return self.root / UPLOADS

    @property
    def certificate(self) -> Path:
        return self.root / CERTIFICATE

    @property
    def ready(self) -> Path:
        return self.root / READY

    @property
    def begin(self) -> Path:
        return self.root / BEGIN

    @property
    def local_lock(self) -> Path:
        return self.root / LOCAL_LOCK

    @property
    def local_pid(self) -> Path:
        return self.root / LOCAL_PID

    @property
    def local_errors(self) -> Path:
        return self.root / LOCAL_ERRORS

    @property
    def venv(self) -> Path:
        """The virtual environment of the job's Python; shared by the runs on one machine."""
        return self.root.parent / "venv"

    def of_node(self, rank: int) -> RunFolder:
        """Return the folder in which machine `rank` of the run works; it may lie on a disk that all machines share."""
        return RunFolder(self.root.with_name(f"{self.root.name}.{rank}"))


@dataclass(frozen=True)
class Place:
    """The files of one machine's watching process: its lock, its count of what is billed, its exit code."""

    run_dir: Path
    name: str = "watchdog"  # of several machines that share a disk, each has its own

    @property
    def lock(self) -> Path:
        return self.run_dir / f"{self.name}.lock"

    @property
    def holder_lock(self) -> Path:
        """Held while a SkyPilot job waits for the watching process: SkyPilot then sees the machine as busy."""
        return self.run_dir / f"{self.name}-holder.lock"

    @property
    def clock(self) -> Path:
        """The count of what is billed."""
        return self.run_dir / f"{self.name}.json"

    @property
    def errors(self) -> Path:
        return self.run_dir / f"{self.name}.err"

    @property
    def end(self) -> Path:
        """The exit code of a watching process that has ended."""
        return self.run_dir / f"{self.name}.end"


def place_of(run_dir: Path, rank: int) -> Place:
    """Return the place of machine `rank`, from 0."""
    return Place(run_dir, f"node{rank}") if rank else Place(run_dir)


def secrets_path(run_id: str) -> str:
    """Return the path of the job's secret values: in the machine's memory, until the watchdog removes the file."""
    return f"/dev/shm/cloudrun-{run_id}.json"
