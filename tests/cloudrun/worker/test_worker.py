"""The worker as a real process: whatever happens to its job, it says how it ended, and stops in time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cloudrun.files.untrusted import read_object
from cloudrun.protocol import messages
from cloudrun.protocol.messages import CorrectedEstimate
from cloudrun.protocol.order import Order, Step, read_order
from cloudrun.protocol.run_folder import Place
from cloudrun.protocol.words import EndReason, WorkerPhase
from cloudrun.worker import status_files, watchdog
from tests.support.checkout import CHECKOUT
from tests.support.orders import an_order
from tests.support.processes import has_ended, program, wait_for
from tests.support.scancel import SCANCEL

StartWorker = Callable[[Order], "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartWorker]:
    """The worker as on an allocation: `scancel` says what it was called with and ends the watchdog."""
    started = []
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scancel").write_text(SCANCEL.format(folder=tmp_path))
    (tmp_path / "bin" / "scancel").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"

    def start_worker(order: Order) -> subprocess.Popen[bytes]:
        (tmp_path / "order.json").write_text(order.as_json())
        process = subprocess.Popen(
            [sys.executable, "-m", "cloudrun.worker", str(tmp_path)],
            env={**os.environ, "PATH": path, "SLURM_JOB_ID": "7"},
        )
        (tmp_path / "watchdog.pid").write_text(str(process.pid))
        started.append(process)
        return process

    yield start_worker
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def result(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return value


def test_an_order_survives_its_file(tmp_path: Path) -> None:
    order = an_order("true", setup=[Step("setup", ["true"])], make_data=Step("leaves", ["true"]))
    (tmp_path / "order.json").write_text(order.as_json())
    assert read_order(tmp_path / "order.json") == order


def test_a_job_that_ends_well_leaves_log_result_and_phases(start: StartWorker, tmp_path: Path) -> None:
    assert start(an_order("echo one; echo two >&2; echo $CLOUDRUN_RUN_ID > $CLOUDRUN_OUTPUT/x")).wait(30) == 0
    assert (tmp_path / "log.txt").read_text() == "one\ntwo\ncloudrun: finished\n"
    assert (tmp_path / "out" / "x").read_text() == "r\n"
    assert (result(tmp_path)["reason"], result(tmp_path)["exit_code"]) == ("finished", 0)
    assert [phase["name"] for phase in result(tmp_path)["phases"]] == ["prepare", "run"]


def test_a_job_that_fails_is_quoted_in_the_result(start: StartWorker, tmp_path: Path) -> None:
    assert start(an_order("echo 'error: no such class'; exit 3")).wait(30) == 3
    assert result(tmp_path)["reason"] == "failed"
    assert result(tmp_path)["message"] == "the job ended with exit code 3: no such class"


def test_whoever_finds_the_result_finds_the_last_progress_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = status_files.StatusFiles(tmp_path)
    worker.enter(WorkerPhase.RUN)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "progress.json").write_text('{"epoch": 3, "epochs": 3}')
    worker.correct(CorrectedEstimate(9.0, 1.0, "9 steps"))
    worker.beat()  # too soon after the last
    seen: list[dict[str, Any] | None] = []
    replace_text = messages.replace_text

    def look_once_it_is_there(path: Path, text: str) -> None:
        replace_text(path, text)
        if path.name == "result.json":
            seen.append(read_object(tmp_path / "status.json"))

    monkeypatch.setattr(messages, "replace_text", look_once_it_is_there)
    worker.finish(reason=EndReason.FINISHED, exit_code=0, message="finished")
    for file in (worker._log, worker._index):
        file.close()
    (status,) = seen
    assert status is not None
    assert (status["epoch"], status["projected_s"]) == (3, 9.0)


@pytest.mark.parametrize("how", ["signal", "file", "signal to the job alone"])
def test_a_job_that_is_asked_to_stop_gets_time_to_save(start: StartWorker, tmp_path: Path, how: str) -> None:
    script = "trap 'echo saved > $CLOUDRUN_OUTPUT/last; exit 75' TERM; echo $$ > $CLOUDRUN_OUTPUT/pid; echo up; "
    worker = start(an_order(script + "while :; do sleep 0.05; done"))
    wait_for(lambda: "up" in (tmp_path / "log.txt").read_text() if (tmp_path / "log.txt").exists() else False)
    match how:
        case "signal":
            worker.terminate()
        case "file":
            (tmp_path / "stop").touch()
        case _:  # a machine that is taken away signals everybody: the job may be the first to hear of it
            os.kill(int((tmp_path / "out" / "pid").read_text()), signal.SIGTERM)
    worker.wait(30)
    assert result(tmp_path)["reason"] == "stopped"
    assert "stopped early with a complete checkpoint" in result(tmp_path)["message"]
    assert (tmp_path / "out" / "last").read_text() == "saved\n"


@pytest.mark.parametrize(("how", "reason"), [("signal", "preempted"), ("file", "stopped"), ("both", "stopped")])
def test_a_rented_machine_that_is_taken_away_is_not_said_to_be_stopped_by_its_user(
    start: StartWorker, tmp_path: Path, how: str, reason: str
) -> None:
    script = "trap 'echo saved > $CLOUDRUN_OUTPUT/last; exit 75' TERM; echo up; while :; do sleep 0.05; done"
    worker = start(an_order(script, ending="slurm"))
    wait_for(lambda: (tmp_path / "log.txt").exists() and "up" in (tmp_path / "log.txt").read_text())
    if how != "signal":
        (tmp_path / "stop").touch()
    if how != "file":
        worker.terminate()
    wait_for((tmp_path / "result.json").exists)
    assert (result(tmp_path)["reason"], result(tmp_path)["exit_code"]) == (reason, 75)
    assert (tmp_path / "out" / "last").read_text() == "saved\n"


def test_a_rented_machine_that_kills_the_attempt_and_is_taken_away_says_so(start: StartWorker, tmp_path: Path) -> None:
    worker = start(an_order("echo up; sleep 60", ending="slurm"))
    wait_for(lambda: (tmp_path / "log.txt").exists() and "up" in (tmp_path / "log.txt").read_text())
    attempt = int((tmp_path / "attempt.pid").read_text())
    os.kill(attempt, signal.SIGSTOP)  # it does not hear the signal before it is killed
    worker.terminate()
    os.kill(attempt, signal.SIGKILL)
    wait_for((tmp_path / "result.json").exists)
    assert result(tmp_path)["reason"] == "preempted"


SLOW_SAVER = """\
import os, signal, sys, time
def save(*_):
    time.sleep(1)
    open(os.environ["CLOUDRUN_OUTPUT"] + "/last", "w").write("saved")
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
open(os.environ["CLOUDRUN_OUTPUT"] + "/pid", "w").write(str(os.getpid()))
while True:
    time.sleep(0.05)
"""


@pytest.mark.parametrize("how", ["signal", "signal to everybody, the shell first"])
def test_a_program_that_a_script_calls_gets_time_to_save_though_its_shell_is_gone(
    start: StartWorker, tmp_path: Path, how: str
) -> None:
    pid = tmp_path / "out" / "pid"
    worker = start(an_order(f"python -c '{SLOW_SAVER}'; echo next"))
    wait_for(lambda: pid.exists() and pid.read_text() != "")
    if how == "signal":
        worker.terminate()
    else:
        os.kill(int((tmp_path / "job.pid").read_text()), signal.SIGTERM)
        os.kill(int(pid.read_text()), signal.SIGTERM)
        worker.terminate()
    worker.wait(30)
    assert result(tmp_path)["reason"] == "stopped"
    assert (tmp_path / "out" / "last").read_text() == "saved"


def test_the_budget_ends_the_job_with_nobody_watching(start: StartWorker, tmp_path: Path) -> None:
    script = "trap 'echo saved > $CLOUDRUN_OUTPUT/last; exit 75' TERM; while :; do sleep 0.05; done"
    start(an_order(script, hourly_usd=3600.0, max_cost_usd=4.0)).wait(30)  # one dollar a second
    assert result(tmp_path)["reason"] == "budget"
    assert (tmp_path / "out" / "last").exists()


def test_seconds_billed_before_the_worker_started_count(start: StartWorker, tmp_path: Path) -> None:
    start(an_order("sleep 60", max_hours=1.0, billed_s=3601.0)).wait(30)
    assert result(tmp_path)["reason"] == "budget"


def test_a_run_whose_timed_steps_break_its_budget_saves_and_stops_at_once(start: StartWorker, tmp_path: Path) -> None:
    timing = {"timed_steps": 20, "timed_s": 20.0, "steps_per_epoch": 50, "steps_left": 7200}
    progress = json.dumps({"timing": {**timing, "evaluation_left_s": 0, "evaluation_is_measured": False}})
    script = "trap 'echo saved > $CLOUDRUN_OUTPUT/last; exit 75' TERM; "  # first: it is stopped as soon as it tells
    script += f"echo '{progress}' > $CLOUDRUN_OUTPUT/progress.json; while :; do sleep 0.05; done"
    start(an_order(script, max_hours=1.0)).wait(30)
    assert result(tmp_path)["reason"] == "budget"
    message = "is over the cap of 1 h; stopped early with a complete checkpoint"
    assert result(tmp_path)["message"].endswith(message)
    assert (tmp_path / "out" / "last").exists()
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["projected_s"] == pytest.approx(7200, abs=10)
    assert status["rests_on"] == "20 timed steps on this machine"


def test_a_gpu_that_was_asked_for_and_does_not_answer_ends_the_run_at_once(start: StartWorker, tmp_path: Path) -> None:
    if any((Path(folder) / "nvidia-smi").exists() for folder in os.environ["PATH"].split(os.pathsep)):
        pytest.skip("this machine has a GPU driver")
    start(an_order("true", gpu_count=1, gpu_names=["A100"])).wait(30)
    assert result(tmp_path)["reason"] == "no_gpu"
    assert "A100 was asked for, but nvidia-smi does not run here" in result(tmp_path)["message"]


def test_a_set_up_that_fails_is_not_taken_for_training(start: StartWorker, tmp_path: Path) -> None:
    order = an_order("touch $CLOUDRUN_OUTPUT/ran", setup=[Step("setup", ["bash", "-c", "echo no space; exit 9"])])
    start(order).wait(30)
    assert result(tmp_path)["reason"] == "setup_failed"
    assert "no space" in result(tmp_path)["message"]
    assert not (tmp_path / "out" / "ran").exists()


def test_training_starts_once_the_data_are_whole(start: StartWorker, tmp_path: Path) -> None:
    worker = start(an_order("ls $CLOUDRUN_DATA", data_arrives=True))
    wait_for(lambda: (tmp_path / "status.json").exists() and "sync" in (tmp_path / "status.json").read_text())
    assert worker.poll() is None
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "leaf.jpg").touch()
    (tmp_path / "data.ready").touch()
    assert worker.wait(30) == 0
    assert "leaf.jpg" in (tmp_path / "log.txt").read_text()


def test_a_crash_that_left_nothing_but_its_log_does_not_bill_to_the_end_of_the_budget(
    start: StartWorker, tmp_path: Path
) -> None:
    start(an_order("exit 3", ending="slurm", idle_s=2.0)).wait(30)
    assert (tmp_path / "scancel").exists()
    assert "there are no results to wait for" in (tmp_path / "log.txt").read_text()


def test_results_that_lie_only_on_the_machine_keep_it_up_until_they_are_fetched(
    start: StartWorker, tmp_path: Path
) -> None:
    watchdog = start(an_order("echo x > $CLOUDRUN_OUTPUT/x", ending="slurm", on_finish="keep"))
    wait_for((tmp_path / "result.json").exists)
    time.sleep(1.5)  # several looks of the watchdog
    assert watchdog.poll() is None
    (tmp_path / "home").touch()
    assert watchdog.wait(30) == 0
    assert not (tmp_path / "scancel").exists()


def test_the_budget_ends_the_machine_with_the_results_still_on_it(start: StartWorker, tmp_path: Path) -> None:
    start(an_order("true", ending="slurm", max_hours=14 / 3600)).wait(30)
    assert (tmp_path / "scancel").read_text() == "--full --signal=TERM 7\n"
    assert "ending this machine: its budget is used" in (tmp_path / "log.txt").read_text()


def test_what_a_command_leaves_running_is_ended_with_it(start: StartWorker, tmp_path: Path) -> None:
    """It would write on while the results are fetched, and hold the GPU."""
    monitor = "(while true; do date > $CLOUDRUN_OUTPUT/gpu.log; sleep 0.01; done)"
    command = f"{monitor} & echo $! > $CLOUDRUN_OUTPUT/pid"
    assert start(an_order(command)).wait(40) == 0
    assert result(tmp_path)["reason"] == "finished"
    assert has_ended(int((tmp_path / "out" / "pid").read_text()))
    assert "the command has ended: ending what it left running" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("how", ["impatient", "by its budget"])
def test_a_machine_whose_end_was_cut_off_after_its_folder_was_removed_is_ended(how: str, tmp_path: Path) -> None:
    (tmp_path / "scancel").write_text(SCANCEL.format(folder=tmp_path).replace("/scancel\n", "/called\n"))
    (tmp_path / "scancel").chmod(0o755)
    folder = tmp_path / "run"
    folder.mkdir()
    hours = 1.0 if how == "impatient" else 14 / 3600
    order = an_order("echo x > $CLOUDRUN_OUTPUT/x", ending="slurm", max_hours=hours)
    (folder / "order.json").write_text(order.as_json())
    impatient = program("impatient_watchdog", folder)
    command = impatient if how == "impatient" else [sys.executable, "-m", "cloudrun.worker", str(folder)]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    watchdog = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stderr=subprocess.DEVNULL)
    try:
        (tmp_path / "watchdog.pid").write_text(str(watchdog.pid))
        wait_for((folder / "result.json").exists)
        shutil.rmtree(folder)  # what `down` does before it asks SkyPilot
        watchdog.wait(30)
        assert (tmp_path / "called").exists()
    finally:
        watchdog.kill()
        watchdog.wait()


def test_a_disk_that_stays_full_does_not_keep_the_machine_beyond_its_budget(start: StartWorker, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False)
    if mounted.returncode != 0:
        pytest.skip("needs root, to mount a small disk")
    try:
        order = an_order("cat /dev/zero > $CLOUDRUN_OUTPUT/x; sleep 60", ending="slurm", max_hours=14 / 3600)
        (folder / "order.json").write_text(order.as_json())
        environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
        watchdog = subprocess.Popen([sys.executable, "-m", "cloudrun.worker", str(folder)], env=environment)
        (tmp_path / "watchdog.pid").write_text(str(watchdog.pid))
        try:
            watchdog.wait(40)
            assert (tmp_path / "scancel").exists()
            assert not (folder / "result.json").exists()  # there was no room for it
        finally:
            watchdog.kill()
            watchdog.wait()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_computer_that_slept_has_not_stalled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    half_an_hour_ago = time.time() - 1800
    for name in ("out/progress.json", "out/metrics.jsonl"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (half_an_hour_ago, half_an_hour_ago))
    watch = watchdog.Watchdog(Place(tmp_path), an_order("true"), address="")
    beat = messages.Heartbeat(WorkerPhase.RUN, "", "", half_an_hour_ago - 60)
    watch._awake_since = half_an_hour_ago - 60
    assert (watch._step_silence(beat) or 0) == pytest.approx(1800, abs=5)  # it was awake, and nothing came
    watch._looked_at = half_an_hour_ago
    watch._attempt = cast("Any", SimpleNamespace(lives=True))
    watch._look()
    assert 0 <= (watch._step_silence(beat) or 0) < 5
    watch._looked_at = watch._awake_since = time.time() + 3600  # the clock was set back by an hour
    watch._look()
    assert 0 <= (watch._step_silence(beat) or 0) < 5


def test_a_disk_that_is_full_for_a_moment_does_not_end_the_job(tmp_path: Path) -> None:
    worker = status_files.StatusFiles(tmp_path)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, worker.log_fd)
    worker.say("a line that is lost")
    (tmp_path / "status.json").mkdir()  # nothing can be written in its place
    worker.beat(force=True)
    os.close(full)
    for file in (worker._log, worker._index):
        file.close()


def test_a_machine_whose_results_are_safe_is_ended_when_nobody_else_does(start: StartWorker, tmp_path: Path) -> None:
    watchdog = start(an_order("true", ending="slurm"))
    wait_for((tmp_path / "result.json").exists)
    (tmp_path / "stored").touch()
    fetched_long_ago = time.time() - 100
    os.utime(tmp_path / "stored", (fetched_long_ago, fetched_long_ago))
    watchdog.wait(30)
    assert (tmp_path / "scancel").exists()


def test_a_job_that_makes_no_step_any_more_is_stopped(start: StartWorker, tmp_path: Path) -> None:
    script = "trap 'exit 75' TERM; echo {} > $CLOUDRUN_OUTPUT/progress.json; echo up; while :; do sleep 0.05; done"
    start(an_order(script, stall_s=2.0)).wait(30)
    assert result(tmp_path)["reason"] == "stalled"
    assert "no training step for" in result(tmp_path)["message"]


def test_data_that_stop_coming_end_the_run(start: StartWorker, tmp_path: Path) -> None:
    start(an_order("touch $CLOUDRUN_OUTPUT/ran", data_arrives=True, idle_s=2.0)).wait(30)
    assert result(tmp_path)["reason"] == "no_data"
    assert not (tmp_path / "out" / "ran").exists()


def test_a_job_that_will_not_stop_is_killed(start: StartWorker, tmp_path: Path) -> None:
    watchdog = start(an_order("trap '' TERM; echo up; while :; do sleep 0.05; done"))
    wait_for(lambda: (tmp_path / "out").is_dir() and "up" in (tmp_path / "log.txt").read_text())
    (tmp_path / "stop").touch()
    asked_long_ago = time.time() - 100
    os.utime(tmp_path / "stop", (asked_long_ago, asked_long_ago))
    watchdog.wait(60)
    assert result(tmp_path)["reason"] in ("stopped", "failed")
    assert has_ended(int((tmp_path / "attempt.pid").read_text()))


def test_a_attempt_that_is_killed_is_recorded_by_the_watchdog_and_its_job_may_save(
    start: StartWorker, tmp_path: Path
) -> None:
    script = "trap 'echo saved > $CLOUDRUN_OUTPUT/last; exit 75' TERM; echo up; while :; do sleep 0.05; done"
    watchdog = start(an_order(script))
    wait_for(lambda: (tmp_path / "log.txt").exists() and "up" in (tmp_path / "log.txt").read_text())
    os.kill(int((tmp_path / "attempt.pid").read_text()), signal.SIGKILL)
    assert watchdog.wait(60) == 1
    assert "its worker was killed" in result(tmp_path)["message"]
    assert (tmp_path / "out" / "last").read_text() == "saved\n"
    assert [phase["name"] for phase in result(tmp_path)["phases"]] == ["prepare", "run"]


def test_a_killed_worker_takes_its_job_with_it(start: StartWorker, tmp_path: Path) -> None:
    script = "echo $$ > $CLOUDRUN_OUTPUT/pid; exec sleep 60"
    worker = start(an_order(script))
    wait_for(lambda: (tmp_path / "out" / "pid").exists() and (tmp_path / "out" / "pid").read_text().strip() != "")
    worker.send_signal(signal.SIGKILL)  # the watchdog; the attempt and the job hear of it
    pid = int((tmp_path / "out" / "pid").read_text())
    wait_for(lambda: has_ended(pid))


def test_values_of_the_environment_reach_the_job_and_no_file(
    start: StartWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3cret")
    start(an_order('[ ${#MY_TOKEN} = 6 ] && [ "$MODE" = fast ]', env={"MODE": "fast"})).wait(30)
    assert result(tmp_path)["reason"] == "finished"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
