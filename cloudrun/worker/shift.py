"""The order of things beside the job: GPU, set-up and data side by side, then the command."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from cloudrun.untrusted import read_object
from cloudrun.worker.child import CannotStart, Child
from cloudrun.worker.journal import Journal
from cloudrun.worker.order import Order, Step, venv_of
from cloudrun.worker.process_group import group_lives, wait_until_gone
from cloudrun.worker.projection import Overseer
from cloudrun.worker.shift_process import SWITCH_IS_GONE

# The trainer saves within seconds of SIGTERM; a command of the user's own gets as long.
GRACE_S = 30.0
# What a command leaves running is given so long to end by itself, and again once it is told to.
_LEFTOVER_GRACE_S = 3.0
# Of a command, and of a shell whose command was.
_ENDED_BY_SIGTERM = (-signal.SIGTERM, 128 + signal.SIGTERM)
# A job's exit code for "stopped, with a complete checkpoint"; the trainer's, and any other's that keeps to it.
STOPPED_EARLY = 75


class Ended(Exception):
    """The run ends here, for `reason`; not always an error."""

    def __init__(self, reason: str, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.exit_code = exit_code
        self.message = message


class Shift:
    """One run, from the worker's start to its last word."""

    def __init__(self, run_dir: Path, order: Order, journal: Journal) -> None:
        self._dir = run_dir
        self._order = order
        self._journal = journal
        billed_s = float(os.environ.get("CLOUDRUN_BILLED_S", order.billed_s))  # the switch has counted on
        self._billing_began = time.monotonic() - billed_s
        self._signalled = False
        self._is_unwatched = False
        self._beside: Child | None = None
        self._overseer = Overseer(run_dir, order, say=journal.say, publish=journal.projected.update)
        self._data = Path(order.data_path) if order.data_path else run_dir / "data"
        self._venv = venv_of(run_dir)
        self._python = order.python_in(run_dir)
        self._out = run_dir / "out"
        self._out.mkdir(exist_ok=True)

    def work(self) -> int:
        """Do the whole order and write the result. Returns the exit code for the process."""
        signal.signal(signal.SIGTERM, self._note_signal)
        signal.signal(signal.SIGINT, self._note_signal)
        signal.signal(SWITCH_IS_GONE, self._note_lost_switch)
        try:
            self._check_gpu()
            self._prepare()
            self._meet()
            self._train()
            end = Ended("finished", 0, "finished")
        except Ended as err:
            end = err
        except BaseException as err:
            self._journal.finish(reason="failed", exit_code=70, message=f"the worker failed: {err!r}")
            raise
        self._journal.say(end.message if end.reason == "finished" else f"{end.reason}: {end.message}")
        self._journal.finish(reason=end.reason, exit_code=end.exit_code, message=end.message)
        if self._order.ends_machine:
            stored = " or in the store" if self._order.store_uri else ""
            self._journal.say(f"the results are on this machine; it waits until they are fetched{stored}")
        return end.exit_code

    def _note_signal(self, *_: object) -> None:
        self._signalled = True

    def _note_lost_switch(self, *_: object) -> None:
        self._is_unwatched = True

    def _billed_s(self) -> float:
        return time.monotonic() - self._billing_began

    def _check_gpu(self) -> None:
        """Raise Ended unless the GPU that was asked for answers: a rented machine without one is money lost."""
        order = self._order
        if not order.gpu_count:
            return
        self._journal.enter("verify")
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
                "no_gpu", 1, f"{wanted} was asked for, but nvidia-smi does not run here ({_brief(err)})"
            ) from err
        found = [line.strip() for line in answer.stdout.splitlines() if line.strip()]
        if answer.returncode != 0 or len(found) < order.gpu_count:
            said = (answer.stderr or answer.stdout).strip().splitlines()
            raise Ended(
                "no_gpu",
                1,
                f"{wanted} was asked for, but nvidia-smi finds {len(found)} GPU(s): {' '.join(said[:1])}",
            )
        for line in found:
            self._journal.say(f"GPU: {line}")

    def _prepare(self) -> None:
        """Set-up runs while the data arrive; both must be whole before training starts."""
        order = self._order
        self._journal.enter("prepare")
        try:
            for step in order.setup:
                self._journal.say(f"set-up: {step.name} ...")
                began = time.monotonic()
                code = self._run(step)
                self._journal.say(f"set-up: {step.name} took {time.monotonic() - began:.1f} s")
                if code != 0:
                    tail = self._journal.tail()
                    raise Ended("setup_failed", 1, f"set-up step `{step.name}` ended with {code}: {tail}")
                if order.data_beside and self._beside is None and order.make_data is not None:
                    self._beside = self._start(order.make_data)
            if order.make_data is not None:
                self._check_data(self._wait(self._beside or self._start(order.make_data)))
        finally:
            if self._beside is not None and self._beside.exit_code() is None:
                self._beside.stop(grace_s=GRACE_S, meanwhile=self._journal.beat)
            self._beside = None
        if order.data_arrives:
            self._await_data()

    def _check_data(self, code: int | None) -> None:
        """Raise Ended where the command that brings the data has failed."""
        step = self._order.make_data
        if code and step is not None:
            raise Ended("no_data", 1, f"`{step.name}` ended with {code}: {self._journal.tail()}")

    def _await_data(self) -> None:
        self._journal.enter("sync")
        if not (self._dir / "data.ready").exists():
            self._journal.say("set up; waiting for the rest of the data ...")
        while not (self._dir / "data.ready").exists():
            self._check_end()
            time.sleep(0.2)

    def _meet(self) -> None:
        """Where several machines train together: say that this one is ready, and wait until all are."""
        if self._order.nodes == 1:
            return
        self._journal.enter("wait")
        (self._dir / "ready").touch()
        self._journal.say(f"ready; waiting for all {self._order.nodes} machines ...")
        while not (self._dir / "begin").exists():
            self._check_end()
            time.sleep(0.2)

    def _train(self) -> None:
        self._journal.enter("run")
        child = self._start(self._order.command)
        code = self._wait(child)
        wait_until_gone(child.pid, _LEFTOVER_GRACE_S, self._journal.beat)
        if group_lives(child.pid):  # it would write on while the results are fetched, and hold the GPU
            self._journal.say("the command has ended: ending what it left running")
            child.stop(grace_s=_LEFTOVER_GRACE_S, meanwhile=self._journal.beat)
        if code == STOPPED_EARLY:
            raise _saved(self._reason_to_end() or Ended("stopped", code, "it was told to stop"))
        asked = self._reason_to_end()
        if code != 0 and asked is not None:  # a signal to everybody ended the job before it could save
            raise asked
        if code != 0:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise Ended("failed", code, f"the job ended with {how}: {self._journal.tail()}")

    def _run(self, step: Step) -> int:
        """Run one step to its end, or end it and raise when the run has to stop."""
        return self._wait(self._start(step))

    def _start(self, step: Step) -> Child:
        try:
            return Child(
                [self._fill(word) for word in step.argv],
                cwd=self._code_dir(),
                env=self._environment(),
                log_fd=self._journal.log_fd,
            )
        except CannotStart as err:
            raise Ended("failed", 1, f"`{step.name}` cannot start: {err}") from err

    def _wait(self, child: Child) -> int:
        (self._dir / "job.pid").write_text(str(child.pid))
        while child.wait(0.2) is None:
            if self._beside is not None and self._beside is not child and self._beside.exit_code():
                child.stop(grace_s=GRACE_S, meanwhile=self._journal.beat)
                self._check_data(self._beside.exit_code())
            why = self._reason_to_end()
            if why is not None:
                self._journal.say(f"{why.message}; saving what there is")
                stopped_with = child.stop(grace_s=GRACE_S, meanwhile=self._journal.beat)
                raise _saved(why) if stopped_with == STOPPED_EARLY else why
            self._journal.beat()
        code = child.exit_code()
        assert code is not None
        if code in _ENDED_BY_SIGTERM:  # as all of it may be; a program that it called may still save
            child.finish(grace_s=GRACE_S, meanwhile=self._journal.beat)
        return code

    def _check_end(self) -> None:
        self._journal.beat()
        why = self._reason_to_end()
        if why is not None:
            raise why

    def _reason_to_end(self) -> Ended | None:
        """Return what ends the run, if anything does.

        The switch and `cloudrun down` ask by a file. On a rented machine a signal without it is its provider's.
        """
        asked = self._journal.asked_to_stop()
        if asked is not None:
            reason = asked.get("reason", "stopped")
            code = 75 if reason in ("stopped", "budget", "preempted") else 1
            return Ended(reason, code, asked.get("message", "asked to stop"))
        if self._is_unwatched:  # nobody minds the budget any more
            return Ended("failed", 1, "its switch was killed")
        if self._signalled and self._order.may_be_taken_away:
            return Ended("preempted", 75, "the machine is being taken away")
        if self._signalled:
            return Ended("stopped", 75, "asked to stop")
        too_much = self._overseer.reason_to_stop(time.monotonic() - self._billing_began)
        return None if too_much is None else Ended("budget", 75, too_much)

    def _code_dir(self) -> Path:
        code = self._dir / "code"
        work = code / "workdir"
        return work if work.is_dir() else code if code.is_dir() else self._dir

    def _fill(self, word: str) -> str:
        """Whole words alone are filled in: the text of a user's own command is never touched."""
        places: dict[str, str] = {
            "{python}": self._python,
            "{data}": str(self._data),
            "{out}": str(self._out),
            "{config}": str(self._dir / "train.yaml"),
            "{labels}": str(self._dir / "labels.csv"),
            "{node_rank}": str(self._order.node_rank),
            "{head}": ":".join(self._head()),
        }
        return places.get(word, word)

    def _head(self) -> tuple[str, str]:
        """Host and port of the first machine, for the job's processes; known once all have met."""
        begin = read_object(self._dir / "begin") or {}
        host, _, port = str(begin.get("head", "127.0.0.1:0")).rpartition(":")
        return host, port

    def _environment(self) -> dict[str, str]:
        env = dict(os.environ)
        # Job runners set it to 1, which would keep a CPU's other cores idle.
        env.pop("OMP_NUM_THREADS", None)
        env.update(self._order.env)
        paths: list[str] = [str(self._dir / "code"), *filter(None, [env.get("PYTHONPATH")])]
        env.update(
            # `python` in a command of the user's own is the one that has torch.
            PATH=os.pathsep.join([str(Path(self._python).parent), env.get("PATH", os.defpath)]),
            PYTHONPATH=os.pathsep.join(paths),
            PYTHONUNBUFFERED="1",
            CLOUDRUN_RUN_ID=self._order.run_id,
            CLOUDRUN_DATA=str(self._data),
            CLOUDRUN_OUTPUT=str(self._out),
            CLOUDRUN_CODE=str(self._dir / "code"),
            CLOUDRUN_VENV=str(self._venv),
        )
        if self._order.nodes > 1:
            env["CLOUDRUN_NODES"], env["CLOUDRUN_NODE_RANK"] = str(self._order.nodes), str(self._order.node_rank)
            env["CLOUDRUN_HEAD"], env["CLOUDRUN_HEAD_PORT"] = self._head()
        if self._order.gpu_count:
            env["CLOUDRUN_EXPECT_GPU"] = "1"
        return env


def _saved(why: Ended) -> Ended:
    """The same end, of a job that says that it saved: whether it or the worker heard of it first."""
    return Ended(why.reason, why.exit_code, f"{why.message}; stopped early with a complete checkpoint")


def _brief(err: BaseException) -> str:
    if isinstance(err, subprocess.TimeoutExpired):
        return "no answer in 30 s"
    return err.strerror or repr(err) if isinstance(err, OSError) else repr(err)
