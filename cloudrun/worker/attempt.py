"""Do the work of an attempt: check the GPU, set up while the data arrive, run the command, write the result."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from cloudrun.protocol.messages import Begin, StopRequest
from cloudrun.protocol.order import Order, Step
from cloudrun.protocol.run_folder import RunFolder
from cloudrun.protocol.timing import JOB_GRACE_S
from cloudrun.protocol.words import TRAIN_STEP, EndReason, JobExit, WorkerPhase
from cloudrun.worker.attempt_process import WATCHDOG_IS_GONE
from cloudrun.worker.child import CannotStart, Child
from cloudrun.worker.corrected_estimate import Overseer
from cloudrun.worker.machine_use import Sampler
from cloudrun.worker.process_group import group_lives, wait_until_gone
from cloudrun.worker.status_files import StatusFiles

# Processes that a command leaves running have this long to end by themselves, and again once they are told to.
_LEFT_RUNNING_GRACE_S = 3.0
# Exit codes of a command that SIGTERM has ended, and of a shell whose command was.
_ENDED_BY_SIGTERM = (-signal.SIGTERM, 128 + signal.SIGTERM)


class Ended(Exception):
    """The run ends here, for `reason`; not always an error."""

    def __init__(self, reason: EndReason, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.exit_code = exit_code
        self.message = message


class Attempt:
    """One attempt at a run, from its start to its result."""

    def __init__(self, run_dir: Path, order: Order, status_files: StatusFiles) -> None:
        self._files = RunFolder(run_dir)
        self._order = order
        self._status = status_files
        billed_s = float(os.environ.get("CLOUDRUN_BILLED_S", order.billed_s))  # the watchdog's count is the newer
        self._billing_began = time.monotonic() - billed_s
        self._signalled = False
        self._is_unwatched = False
        self._beside: Child | None = None
        self._sampler: Sampler | None = None  # while the job's command runs
        self._overseer = Overseer(run_dir, order, say=status_files.say, publish=status_files.correct)
        self._data = Path(order.data_path) if order.data_path else self._files.data
        self._venv = self._files.venv
        self._python = order.python_in(run_dir)
        self._out = self._files.out
        self._out.mkdir(exist_ok=True)

    def work(self) -> int:
        """Do the whole order and write the result. Returns the exit code for the process."""
        signal.signal(signal.SIGTERM, self._note_signal)
        signal.signal(signal.SIGINT, self._note_signal)
        signal.signal(WATCHDOG_IS_GONE, self._note_lost_watchdog)
        try:
            self._check_gpu()
            self._prepare()
            self._meet()
            self._train()
            end = Ended(EndReason.FINISHED, JobExit.DONE, "finished")
        except Ended as err:
            end = err
        except BaseException as err:
            self._status.finish(reason=EndReason.FAILED, exit_code=JobExit.BUG, message=f"the worker failed: {err!r}")
            raise
        self._status.say(end.message if end.reason is EndReason.FINISHED else f"{end.reason}: {end.message}")
        self._status.finish(reason=end.reason, exit_code=end.exit_code, message=end.message)
        if self._order.ends_machine:
            stored = " or in the store" if self._order.store_uri else ""
            self._status.say(f"the results are on this machine; it waits until they are fetched{stored}")
        return end.exit_code

    def _note_signal(self, *_: object) -> None:
        self._signalled = True

    def _note_lost_watchdog(self, *_: object) -> None:
        self._is_unwatched = True

    def _billed_s(self) -> float:
        return time.monotonic() - self._billing_began

    def _check_gpu(self) -> None:
        """Raise Ended unless the GPU that was asked for answers: a rented machine without one is money lost."""
        order = self._order
        if not order.gpu_count:
            return
        self._status.enter(WorkerPhase.VERIFY)
        wanted = " or ".join(order.gpu_names)
        try:
            answer = subprocess.run(
                ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as err:
            raise Ended(
                EndReason.NO_GPU,
                JobExit.FAILED,
                f"{wanted} was asked for, but nvidia-smi does not run here ({_brief(err)})",
            ) from err
        found = [line.strip() for line in answer.stdout.splitlines() if line.strip()]
        if answer.returncode != 0 or len(found) < order.gpu_count:
            said = (answer.stderr or answer.stdout).strip().splitlines()
            raise Ended(
                EndReason.NO_GPU,
                JobExit.FAILED,
                f"{wanted} was asked for, but nvidia-smi finds {len(found)} GPU(s): {' '.join(said[:1])}",
            )
        for line in found:
            self._status.say(f"GPU: {line}")

    def _prepare(self) -> None:
        """Set up while the data arrive; both must be complete before training starts. Raises Ended where one fails."""
        order = self._order
        self._status.enter(WorkerPhase.PREPARE)
        try:
            for step in order.setup:
                self._status.say(f"set-up: {step.name} ...")
                began = time.monotonic()
                code = self._run(step)
                self._status.say(f"set-up: {step.name} took {time.monotonic() - began:.1f} s")
                if code != 0:
                    tail = self._status.tail()
                    raise Ended(
                        EndReason.SETUP_FAILED, JobExit.FAILED, f"set-up step `{step.name}` ended with {code}: {tail}"
                    )
                if order.data_beside and self._beside is None and order.make_data is not None:
                    self._beside = self._start(order.make_data)
            if order.make_data is not None:
                self._check_data(self._wait(self._beside or self._start(order.make_data)))
        finally:
            if self._beside is not None and self._beside.exit_code() is None:
                self._beside.stop(grace_s=JOB_GRACE_S, meanwhile=self._status.beat)
            self._beside = None
        if order.data_arrives:
            self._await_data()

    def _check_data(self, code: int | None) -> None:
        """Raise Ended where the command that brings the data has failed."""
        step = self._order.make_data
        if code and step is not None:
            raise Ended(EndReason.NO_DATA, JobExit.FAILED, f"`{step.name}` ended with {code}: {self._status.tail()}")

    def _await_data(self) -> None:
        self._status.enter(WorkerPhase.SYNC)
        if not self._files.data_ready.exists():
            self._status.say("set up; waiting for the rest of the data ...")
        while not self._files.data_ready.exists():
            self._check_end()
            time.sleep(0.2)

    def _meet(self) -> None:
        """Say that this machine is ready and wait until all are, where several machines train together."""
        if self._order.nodes == 1:
            return
        self._status.enter(WorkerPhase.WAIT)
        self._files.ready.touch()
        self._status.say(f"ready; waiting for all {self._order.nodes} machines ...")
        while not self._files.begin.exists():
            self._check_end()
            time.sleep(0.2)

    def _train(self) -> None:
        self._status.enter(WorkerPhase.RUN)
        child = self._start(self._order.command)
        self._sampler = Sampler(self._out)
        try:
            code = self._wait(child)
        finally:
            for finding in self._sampler.end():
                self._status.say(finding)
            self._sampler = None
        wait_until_gone(child.pid, _LEFT_RUNNING_GRACE_S, self._status.beat)
        if group_lives(child.pid):  # what is left would write on while the results are fetched, and hold the GPU
            self._status.say("the command has ended: ending what it left running")
            child.stop(grace_s=_LEFT_RUNNING_GRACE_S, meanwhile=self._status.beat)
        if code == JobExit.STOPPED_EARLY:
            raise _saved(self._reason_to_end() or Ended(EndReason.STOPPED, code, "it was told to stop"))
        asked = self._reason_to_end()
        if code != 0 and asked is not None:  # a signal to everybody ended the job before it could save
            raise asked
        if code != 0:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise Ended(EndReason.FAILED, code, f"the job ended with {how}: {self._status.tail()}")

    def _run(self, step: Step) -> int:
        """Run one step to its end, or end it and raise when the run has to stop."""
        return self._wait(self._start(step))

    def _start(self, step: Step) -> Child:
        try:
            return Child(
                [self._fill(word) for word in step.argv],
                cwd=self._code_dir(),
                env=self._environment(),
                log_fd=self._status.log_fd,
            )
        except CannotStart as err:
            raise Ended(EndReason.FAILED, JobExit.FAILED, f"`{step.name}` cannot start: {err}") from err

    def _wait(self, child: Child) -> int:
        self._files.job_pid.write_text(str(child.pid))
        while child.wait(0.2) is None:
            if self._beside is not None and self._beside is not child and self._beside.exit_code():
                child.stop(grace_s=JOB_GRACE_S, meanwhile=self._status.beat)
                self._check_data(self._beside.exit_code())
            why = self._reason_to_end()
            if why is not None:
                self._status.say(f"{why.message}; saving what there is")
                stopped_with = child.stop(grace_s=JOB_GRACE_S, meanwhile=self._status.beat)
                raise _saved(why) if stopped_with == JobExit.STOPPED_EARLY else why
            self._status.beat()
            if self._sampler is not None:
                self._sampler.tend()
        code = child.exit_code()
        assert code is not None
        if code in _ENDED_BY_SIGTERM:  # the signal may have gone to the whole group, where a program may still save
            child.finish(grace_s=JOB_GRACE_S, meanwhile=self._status.beat)
        return code

    def _check_end(self) -> None:
        self._status.beat()
        why = self._reason_to_end()
        if why is not None:
            raise why

    def _reason_to_end(self) -> Ended | None:
        """Return why the run has to end now; None where it goes on.

        The watchdog and `cloudrun down` ask by a file. On a rented machine a signal without that file comes from the
        machine's provider.
        """
        asked = StopRequest.read(self._files.stop)
        if asked is not None:
            return _early(asked.reason or EndReason.STOPPED, asked.message or "asked to stop")
        if self._is_unwatched:  # nobody watches the budget any more
            return Ended(EndReason.FAILED, JobExit.FAILED, "its watchdog was killed")
        if self._signalled and self._order.may_be_taken_away:
            return _early(EndReason.PREEMPTED, "the machine is being taken away")
        if self._signalled:
            return _early(EndReason.STOPPED, "asked to stop")
        too_much = self._overseer.reason_to_stop(time.monotonic() - self._billing_began)
        return None if too_much is None else _early(EndReason.BUDGET, too_much)

    def _code_dir(self) -> Path:
        places = (self._files.workdir, self._files.code, self._files.root)
        return next(place for place in places if place.is_dir())

    def _fill(self, word: str) -> str:
        """Return the value of a word such as `{data}`, other words as they are.

        Only whole words are filled in: the text of a user's own command is never touched.
        """
        places: dict[str, str] = {
            "{python}": self._python,
            "{data}": str(self._data),
            "{out}": str(self._out),
            "{config}": str(self._files.train_config),
            "{labels}": str(self._files.labels),
            "{node_rank}": str(self._order.node_rank),
            "{head}": ":".join(self._head()),
        }
        return places.get(word, word)

    def _head(self) -> tuple[str, str]:
        """Return host and port of the first machine for the job's processes; 127.0.0.1 and 0 until all have met."""
        begin = Begin.read(self._files.begin) or Begin("127.0.0.1:0")
        host, _, port = begin.head.rpartition(":")
        return host, port

    def _environment(self) -> dict[str, str]:
        env = dict(os.environ)
        # Job runners set it to 1, which would keep a CPU's other cores idle.
        env.pop("OMP_NUM_THREADS", None)
        env.update(self._order.env)
        paths: list[str] = [str(self._files.code), *filter(None, [env.get("PYTHONPATH")])]
        env.update(
            # `python` in a command of the user's own is the one that has torch.
            PATH=os.pathsep.join([str(Path(self._python).parent), env.get("PATH", os.defpath)]),
            PYTHONPATH=os.pathsep.join(paths),
            PYTHONUNBUFFERED="1",
            CLOUDRUN_RUN_ID=self._order.run_id,
            CLOUDRUN_DATA=str(self._data),
            CLOUDRUN_OUTPUT=str(self._out),
            CLOUDRUN_CODE=str(self._files.code),
            CLOUDRUN_VENV=str(self._venv),
            CLOUDRUN_TRAIN_HOURS=f"{self._order.train_hours(self._billed_s()):.6f}",
        )
        if self._order.nodes > 1:
            env["CLOUDRUN_NODES"], env["CLOUDRUN_NODE_RANK"] = str(self._order.nodes), str(self._order.node_rank)
            env["CLOUDRUN_HEAD"], env["CLOUDRUN_HEAD_PORT"] = self._head()
        if self._order.gpu_count:
            env["CLOUDRUN_EXPECT_GPU"] = "1"
            if self._order.command.name == TRAIN_STEP:  # a command of the user's own may not need torch
                env["CLOUDRUN_NEEDS_TORCH"] = "1"
        return env


def _early(reason: EndReason, message: str) -> Ended:
    """Return the end of a run that is told to stop."""
    return Ended(reason, reason.exit_code, message)


def _saved(why: Ended) -> Ended:
    """Return the same end with the note that the job saved, whether the job or the worker was told to stop first."""
    return Ended(why.reason, why.exit_code, f"{why.message}; stopped early with a complete checkpoint")


def _brief(err: BaseException) -> str:
    if isinstance(err, subprocess.TimeoutExpired):
        return "no answer in 30 s"
    return err.strerror or repr(err) if isinstance(err, OSError) else repr(err)
