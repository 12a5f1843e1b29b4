"""`infra: ssh://...`: a job on a machine that one can log in to, from the launch to the last trace of it."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.desk import Desk
from tests.support.sshd import Sshd

JOB = """\
name: own
infra: {address}
ssh_key: {key}
data: {{source: {data}}}
run: |
  {run}
budget: {{max_cost: 1, max_hours: 0.2}}
"""
WRITES = "echo here is $(ls $CLOUDRUN_DATA | wc -l) file; echo weights > $CLOUDRUN_OUTPUT/best.pt"
GOES_OFF = "#!/bin/sh\ntouch {root}/asked\nkill $(pgrep -f {root}/sshd_config)\n"
ENDLESS = "trap 'echo saved > $CLOUDRUN_OUTPUT/last.txt; exit 75' TERM; echo up; while :; do sleep 0.05; done"


def job_file(desk: Desk, machine: Sshd, run: str = WRITES, more: str = "") -> str:
    data = desk.folder / "data"
    data.mkdir(exist_ok=True)
    (data / "a.txt").write_text("one")
    path = desk.folder / "own.yaml"
    path.write_text(JOB.format(address=machine.address, key=machine.key, data=data, run=run) + more)
    return str(path)


def launched(desk: Desk, *words: str) -> str:
    done = desk("launch", "--yes", *words)
    assert done.code == 0, done.err
    return done.out.strip()


def test_a_run_leaves_its_results_here_and_nothing_there(desk: Desk, machine: Sshd) -> None:
    run_id = launched(desk, job_file(desk, machine))
    assert (desk.home(run_id) / "best.pt").read_text() == "weights\n"
    assert "here is 1 file" in (desk.home(run_id) / "log.txt").read_text()
    left = {path.relative_to(machine.home).parts[:2] for path in machine.home.rglob("*")}
    assert left == {("cloudrun",), ("cloudrun", "venv"), ("cloudrun", "venv.lock")}
    assert desk("ps").out == "no run costs money\n"
    assert list((desk.folder / "home" / "ssh").glob("*.config")) == []


def test_its_price_is_counted_in_its_currency_and_in_dollars(desk: Desk, machine: Sshd) -> None:
    run_id = launched(desk, job_file(desk, machine, more="price: {hourly: 72, currency: CNY, usd: 0.14}\n"))
    cost = json.loads((desk.home(run_id) / "cost.json").read_text())
    assert cost["hourly_usd"] == pytest.approx(10.08)
    assert cost["own"]["currency"] == "CNY"
    assert cost["own"]["cost"] * 0.14 == pytest.approx(cost["cost_usd"], abs=0.001)
    assert "stays on, and its bill with it" in desk("cost", run_id).out


def test_a_job_goes_on_while_nobody_is_connected(desk: Desk, machine: Sshd) -> None:
    wait = "for i in 1 2 3 4 5 6 7 8; do echo step $i; sleep 0.25; done; touch $CLOUDRUN_OUTPUT/done"
    run_id = launched(desk, "-d", job_file(desk, machine, wait))
    machine.stop()
    time.sleep(3)
    machine.start()
    log = desk("logs", run_id)
    assert log.code == 0, log.err
    assert [line for line in log.out.splitlines() if line.startswith("step")] == [f"step {n}" for n in range(1, 9)]
    assert desk("down", "--yes", run_id).code == 0
    assert (desk.home(run_id) / "done").exists()


def test_down_has_it_save_and_leaves_no_process(desk: Desk, machine: Sshd) -> None:
    run_id = launched(desk, "-d", job_file(desk, machine, ENDLESS))
    assert desk("down", "--yes", run_id).code == 0
    assert (desk.home(run_id) / "last.txt").read_text() == "saved\n"
    assert not (machine.home / "cloudrun" / run_id).exists()
    assert processes_in(machine.home) == []


def test_down_ends_what_a_killed_watchdog_has_left(desk: Desk, machine: Sshd) -> None:
    run_id = launched(desk, "-d", job_file(desk, machine, "trap '' TERM; setsid sleep 300 & echo up; wait"))
    folder = machine.home / "cloudrun" / run_id
    until = time.monotonic() + 30
    while "up" not in (folder / "log.txt").read_text() and time.monotonic() < until:
        time.sleep(0.05)
    for pid in processes_in(machine.home):
        if "cloudrun.worker" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    assert desk("down", "--yes", "--force", run_id).code == 0
    assert processes_in(machine.home) == []
    assert not folder.exists()


def test_the_machine_is_ended_by_the_command_that_the_job_names(desk: Desk, machine: Sshd) -> None:
    machine.add_program("go-off", GOES_OFF.format(root=machine.root))
    done = desk("launch", "--yes", job_file(desk, machine, more="price: 0.5\nend: go-off\n"))
    assert done.code == 0, done.err
    assert (machine.root / "asked").exists()
    assert "nothing is billing" in done.err
    assert desk("ps").out == "no run costs money\n"


@pytest.mark.slow
def test_the_machine_ends_itself_at_the_budgets_end_while_nobody_looks(desk: Desk, machine: Sshd) -> None:
    machine.add_program("go-off", GOES_OFF.format(root=machine.root))
    more = "price: 0.5\nend: go-off\n"
    launched(desk, "-d", "--max-hours", "0.007", job_file(desk, machine, ENDLESS, more))
    until = time.monotonic() + 60
    while not (machine.root / "asked").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert (machine.root / "asked").exists()
    until = time.monotonic() + 30  # its hours are over: that it does not answer is then its end
    while desk("down", "--yes", "--force").code != 0 and time.monotonic() < until:
        time.sleep(1)
    assert desk("ps").out == "no run costs money\n"


def test_a_command_that_does_not_end_the_machine_is_called_out(
    desk: Desk, machine: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudrun.backends.ssh.backend._OFF_WITHIN_S", 4.0)
    machine.add_program("go-off", "#!/bin/sh\ntrue\n")
    done = desk("launch", "--yes", job_file(desk, machine, more="price: 0.5\nend: go-off\n"))
    assert done.code == 1
    assert "still answers 4 s after `go-off`" in done.err
    assert "own" in desk("ps").out


def test_a_run_uses_the_free_gpus_alone(desk: Desk, machine: Sshd) -> None:
    machine.gpus("0, NVIDIA GeForce RTX 4090, 20111, 24564, 99", "1, NVIDIA GeForce RTX 4090, 12, 24564, 0")
    job = job_file(desk, machine, "echo on $CUDA_VISIBLE_DEVICES > $CLOUDRUN_OUTPUT/gpus")
    run_id = launched(desk, "--gpu", "A100:1", job)
    assert (desk.home(run_id) / "gpus").read_text() == "on 1\n"
    assert json.loads((desk.home(run_id) / "cost.json").read_text())["gpu"] == "RTX4090:1"


def test_a_gpu_that_somebody_else_uses_is_refused_and_taken_where_it_is_named(desk: Desk, machine: Sshd) -> None:
    machine.gpus("0, NVIDIA A100-SXM4-80GB, 40000, 81920, 80")
    job = job_file(desk, machine, "echo on $CUDA_VISIBLE_DEVICES > $CLOUDRUN_OUTPUT/gpus")
    refused = desk("launch", "--yes", "--gpu", "A100:1", job)
    assert refused.code == 3
    assert "GPU 0 A100-80GB-SXM is in use (40,000 of 81,920 MiB, 80 % busy)" in refused.err
    run_id = launched(desk, "--gpu", "A100:1", "--set", "machine.gpus=[0]", job)
    assert (desk.home(run_id) / "gpus").read_text() == "on 0\n"


def test_a_machine_that_does_not_answer_costs_nothing(desk: Desk, machine: Sshd) -> None:
    job = job_file(desk, machine)
    machine.stop()
    refused = desk("launch", "--yes", job)
    assert refused.code == 3
    assert "Connection refused" in refused.err
    assert "rented boxes get a new port when they restart" in refused.err
    assert desk("ps", "--all").out.count("own") == 0


def test_another_key_than_last_time_is_refused(desk: Desk, machine: Sshd) -> None:
    job = job_file(desk, machine)
    assert desk("launch", "--dry-run", job).code == 0
    machine.stop()
    machine.new_host_key()
    machine.start()
    refused = desk("launch", "--dry-run", job)
    assert refused.code == 3
    assert "ssh-keygen" in refused.err


def test_a_password_is_never_asked_for(desk: Desk, machine: Sshd) -> None:
    job = job_file(desk, machine)
    (machine.root / "user_key.pub").write_text("")
    refused = desk("launch", "--dry-run", job)
    assert refused.code == 3
    assert "Permission denied" in refused.err
    assert "ssh-copy-id" in refused.err


def test_a_shell_that_prints_is_found_before_files_are_sent(desk: Desk, machine: Sshd) -> None:
    job = job_file(desk, machine)
    machine.stop()
    machine.start(before_each_command="echo Welcome to the cluster")
    refused = desk("launch", "--dry-run", job)
    assert refused.code == 3
    assert "prints 'Welcome to the cluster' before each command" in refused.err


def test_a_host_of_the_users_ssh_config_is_reached_through_its_jump_host(desk: Desk, machine: Sshd) -> None:
    config = desk.folder / ".ssh" / "config"
    config.parent.mkdir()
    config.write_text(
        f"Host front\n  HostName 127.0.0.1\n  Port {machine.port}\n  IdentityFile {machine.key}\n"
        f"  UserKnownHostsFile {desk.folder}/known\n  StrictHostKeyChecking accept-new\n"
        f"Host lab\n  HostName 127.0.0.1\n  Port {machine.port}\n  ProxyJump front\n  IdentityFile {machine.key}\n"
    )
    job = job_file(desk, machine)
    text = Path(job).read_text().replace(machine.address, "ssh://lab").replace(f"ssh_key: {machine.key}\n", "")
    Path(job).write_text(text)
    run_id = launched(desk, job)
    assert (desk.home(run_id) / "best.pt").exists()


def test_a_run_goes_on_on_the_same_machine(desk: Desk, machine: Sshd) -> None:
    job = job_file(desk, machine, "echo again >> $CLOUDRUN_OUTPUT/times; exit 1", "lifecycle: {on_finish: keep}\n")
    assert desk("launch", "--yes", job).code == 1
    (run,) = desk.ledger.all()
    assert desk("resume", "--yes", run.run_id).code == 1
    assert desk("down", "--yes", run.run_id).code == 0
    assert (desk.home(run.run_id) / "times").read_text() == "again\nagain\n"


def processes_in(folder: Path) -> list[int]:
    """Return the processes that run in a folder, or name it as an argument."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            place = str((process / "cwd").readlink())
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if place.startswith(str(folder)) or any(word.startswith(os.fsencode(folder)) for word in words):
            found.append(int(process.name))
    return found
