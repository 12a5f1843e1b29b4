"""On a cloud the SkyPilot job only holds a place: whatever is killed, one watchdog works, and it counts on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cloudrun.protocol.order import Order
from cloudrun.protocol.run_folder import Place
from cloudrun.worker.attempt_process import AttemptProcess
from tests.support.orders import an_order
from tests.support.processes import has_ended, wait_for

SAVES = "trap 'echo saved > $CLOUDRUN_OUTPUT/last; exit 75' TERM; echo $$ >> $CLOUDRUN_OUTPUT/pids; "
ENDLESS = SAVES + "while :; do sleep 0.05; done"


class Machine:
    """A rented machine: its SkyPilot jobs, and whatever they leave."""

    def __init__(self, folder: Path) -> None:
        self.run_dir = folder / "run"
        self.run_dir.mkdir()
        self.place = Place(self.run_dir)
        # SkyPilot's Python there: it notes what it was asked for, and the machine stays up.
        self.asked = folder / "asked"
        python = folder / "skypilot-runtime" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\ncase "$2" in *set_last_active*) exit;; esac\necho "$2" >> {self.asked}\n')
        python.chmod(0o755)
        self._env = {**os.environ, "SKY_RUNTIME_DIR": str(folder)}
        self._jobs: list[subprocess.Popen[bytes]] = []

    def order(self, script: str, **changes: Any) -> Order:
        order = an_order(script, **{"ending": "skypilot", **changes})
        (self.run_dir / "order.json").write_text(order.as_json())
        return order

    def submit(self) -> subprocess.Popen[bytes]:
        """A SkyPilot job, as Ray starts it, and starts it again."""
        job = subprocess.Popen(
            [sys.executable, "-m", "cloudrun.worker", str(self.run_dir)], env=self._env, start_new_session=True
        )
        self._jobs.append(job)
        return job

    def begin(self) -> None:
        """What the launch does over SSH, before it asks for a SkyPilot job."""
        command = [sys.executable, "-m", "cloudrun.worker", str(self.run_dir), "begin"]
        subprocess.run(command, env=self._env, check=True, timeout=30)

    def watchdog(self) -> int:
        """The process that watches."""
        (only,) = self._watchdogs()
        return only

    def _watchdogs(self) -> list[int]:
        return [pid for pid in map(int, (path.name for path in Path("/proc").glob("[0-9]*"))) if self._is_watchdog(pid)]

    def _is_watchdog(self, pid: int) -> bool:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return words[3:5] == [str(self.run_dir).encode(), b"watch"] and not has_ended(pid)

    def job_pids(self) -> list[int]:
        """Of the job's command: one for each time that it was started."""
        pids = self.run_dir / "out" / "pids"
        return [int(word) for word in pids.read_text().split()] if pids.exists() else []

    def wait_for_the_job(self) -> int:
        wait_for(lambda: len(self.job_pids()) == 1)
        return self.job_pids()[0]

    def result(self) -> dict[str, Any]:
        wait_for((self.run_dir / "result.json").exists)
        value: dict[str, Any] = json.loads((self.run_dir / "result.json").read_text())
        return value

    def end(self) -> None:
        for job in self._jobs:
            job.kill()
            job.wait()
        for pid in self._watchdogs():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not self._watchdogs() and not AttemptProcess.is_at_work(self.run_dir))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.end()


def test_a_job_of_skypilots_ends_as_the_run_does(machine: Machine) -> None:
    machine.order("exit 3", on_finish="keep")
    job = machine.submit()
    assert machine.result()["reason"] == "failed"
    (machine.run_dir / "home").touch()
    assert job.wait(30) == 3
    assert machine.submit().wait(30) == 3  # Ray tries it again: nothing is started


def test_the_watchdog_works_before_there_is_a_job_of_skypilots_which_then_waits_for_it(machine: Machine) -> None:
    """Where a machine's memory is full, Ray kills each job at once, and there would be no watchdog at all."""
    machine.order(ENDLESS)
    machine.begin()
    pid = machine.wait_for_the_job()
    machine.begin()  # a second time changes nothing
    job = machine.submit()
    time.sleep(2)
    assert (job.poll(), machine.job_pids()) == (None, [pid])
    os.kill(machine.watchdog(), signal.SIGTERM)
    assert job.wait(60) == 75
    machine.begin()
    time.sleep(1)
    assert machine.job_pids() == [pid]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, "its whole process group"])
def test_the_end_of_a_job_of_skypilots_is_not_the_end_of_the_run(machine: Machine, how: str | signal.Signals) -> None:
    """As Ray's memory monitor, `ray stop` and `sky cancel` end it."""
    machine.order(ENDLESS)
    job = machine.submit()
    pid = machine.wait_for_the_job()
    if isinstance(how, str):
        os.killpg(job.pid, signal.SIGKILL)
    else:
        job.send_signal(how)
    job.wait(30)
    second = machine.submit()  # Ray starts its task again
    time.sleep(2)
    assert (second.poll(), has_ended(pid), machine.job_pids()) == (None, False, [pid])
    (machine.run_dir / "stop").touch()
    assert machine.result()["reason"] == "stopped"
    (machine.run_dir / "leave").touch()
    assert second.wait(30) == 75


@pytest.mark.slow
def test_what_skypilot_ends_with_a_task_of_rays_is_the_holder_alone(machine: Machine) -> None:
    """SkyPilot's own daemon does it, once the task is gone: all children of the job, with SIGKILL after 30 s."""
    machine.order(ENDLESS)
    task = subprocess.Popen(["sleep", "300"])
    job = machine.submit()
    pid = machine.wait_for_the_job()
    words = [sys.executable, "-m", "sky.skylet.subprocess_daemon", f"--parent-pid={task.pid}", f"--proc-pid={job.pid}"]
    subprocess.run(words, check=True)
    time.sleep(3)  # it has looked at the tree of the job
    task.kill()  # as Ray's memory monitor does
    task.wait()
    assert job.wait(30) == -signal.SIGTERM
    daemon = "\0".join(words[2:]).encode()
    wait_for(lambda: not any(daemon in line for line in command_lines()), 90)
    assert (len(machine.job_pids()), has_ended(pid), has_ended(machine.watchdog())) == (1, False, False)


def command_lines() -> list[bytes]:
    """Of each process that can be read, with a zero byte between two words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes())
    return found


def test_a_machine_that_is_taken_away_is_heard_of_by_the_watchdog_itself(machine: Machine) -> None:
    """A system that shuts down tells every process."""
    machine.order(ENDLESS)
    job = machine.submit()
    machine.wait_for_the_job()
    os.kill(machine.watchdog(), signal.SIGTERM)
    assert machine.result()["reason"] == "preempted"
    assert job.wait(30) == 75
    assert (machine.run_dir / "out" / "last").read_text() == "saved\n"


def test_the_watchdog_is_no_child_of_the_job_of_skypilots(machine: Machine) -> None:
    machine.order(ENDLESS)
    job = machine.submit()
    machine.wait_for_the_job()
    watchdog = machine.watchdog()
    parents = []
    pid = watchdog
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
        parents.append(pid)
    assert job.pid not in parents
    assert os.getsid(watchdog) != os.getsid(job.pid)


def test_a_watchdog_that_is_killed_is_started_again_and_counts_on(machine: Machine) -> None:
    machine.order(ENDLESS, billed_s=1000.0, written_at=time.time() - 500)
    job = machine.submit()
    machine.wait_for_the_job()
    wait_for(machine.place.clock.exists)
    before = json.loads(machine.place.clock.read_text())
    os.kill(machine.watchdog(), signal.SIGKILL)
    assert machine.result()["message"] == "its watchdog was killed; stopped early with a complete checkpoint"
    assert (machine.run_dir / "out" / "last").read_text() == "saved\n"
    wait_for(lambda: bool(machine.place.clock.read_text() != json.dumps(before)), 30)
    after = json.loads(machine.place.clock.read_text())
    passed_s = after["moment"]["monotonic"] - before["moment"]["monotonic"]
    assert after["billed_s"] == pytest.approx(before["billed_s"] + passed_s, abs=0.1)
    assert (job.poll(), len(machine.job_pids())) == (None, 1)  # it guards the results; no second job


def test_a_watchdog_that_is_killed_with_its_attempt_records_the_crash(machine: Machine) -> None:
    machine.order(ENDLESS)
    machine.submit()
    pid = machine.wait_for_the_job()
    wait_for(machine.place.clock.exists)
    attempt = int((machine.run_dir / "attempt.pid").read_text())
    os.kill(machine.watchdog(), signal.SIGSTOP)
    os.kill(attempt, signal.SIGKILL)
    os.kill(machine.watchdog(), signal.SIGKILL)
    assert machine.result()["message"] == "its worker was killed"
    assert has_ended(pid)
    assert len(machine.job_pids()) == 1


def test_the_budget_that_was_used_before_a_watchdog_was_killed_stays_used(machine: Machine) -> None:
    """Else each start would begin a new budget: up to four times the cap, with the laptop off."""
    machine.order("sleep 60", max_hours=1.0, billed_s=3500.0, written_at=time.time() - 700)
    os.utime(machine.run_dir / "order.json", (time.time() - 700,) * 2)
    machine.submit()
    assert machine.result()["reason"] == "budget"


def test_a_run_that_is_resumed_gets_a_watchdog_of_its_own(machine: Machine) -> None:
    machine.order("true", on_finish="keep")
    first = machine.submit()
    machine.result()
    (machine.run_dir / "leave").touch()
    first.wait(30)
    for name in ("leave", "result.json"):
        (machine.run_dir / name).unlink()
    machine.order("echo again; exit 4", billed_s=10.0)
    machine.submit()
    assert machine.result()["exit_code"] == 4


def test_a_second_start_beside_one_that_works_waits_for_it(tmp_path: Path) -> None:
    """On Slurm and here the watchdog is the job itself."""
    (tmp_path / "order.json").write_text(an_order("echo run; sleep 3").as_json())
    command = [sys.executable, "-m", "cloudrun.worker", str(tmp_path)]
    both = [subprocess.Popen(command), subprocess.Popen(command)]
    assert [one.wait(60) for one in both] == [0, 0]
    assert (tmp_path / "log.txt").read_text().count("run\n") == 1
