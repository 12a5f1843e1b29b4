"""A run whose folder somebody removed from its machine: it is said, the processes end, and so does the bill."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from cloudrun.backends import Backend, local
from cloudrun.errors import StoreError
from cloudrun.runs.context import Context
from cloudrun.runs.down import bring_home, down
from cloudrun.runs.follow import LogReader, follow
from cloudrun.runs.refresh import look
from cloudrun.runs.results import copy_home
from cloudrun.state.records import JobState, Phase
from cloudrun.stores import open_store
from tests.support.backends import OneMachine
from tests.support.checkout import CHECKOUT
from tests.support.orders import an_order
from tests.support.processes import has_ended, program, wait_for
from tests.support.runs import a_skypilot_run, rented
from tests.support.scancel import SCANCEL
from tests.support.shell import Shell, Typed

JOB = "name: p\ninfra: local\ndata: {source: 'demo://leaves'}\nrun: echo begun; echo $$ > pid; sleep 300\n"


def removed(shell: Shell) -> tuple[str, list[int]]:
    """A run on this computer whose folder was removed while it trained, and its processes."""
    run_id = shell("launch", "--yes", "-d", shell.job(JOB)).out.strip()
    folder = shell.home / "local" / run_id
    wait_for(lambda: (folder / "job.pid").exists() and b"begun" in (folder / "log.txt").read_bytes())
    pids = [int((folder / name).read_text()) for name in ("worker.pid", "attempt.pid", "job.pid")]
    remove(folder)
    return run_id, pids


def remove(folder: Path) -> None:
    """Remove a folder in which others go on writing."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{folder} cannot be removed")


def test_every_command_says_so_and_down_ends_what_still_runs(shell: Shell) -> None:
    run_id, pids = removed(shell)
    (row,) = shell("ps", "--json").json
    assert row["phase"] == "failed"
    logs, fetched = shell("logs", run_id), shell("fetch", run_id)
    assert (logs.code, fetched.code) == (1, 1)
    assert f"`{run_id}` has no log (failed: it left no result: its folder was removed from its machine)" in logs.err
    assert f"error: nothing of `{run_id}` is left on its machine: its folder was removed there" in fetched.err
    for said in (logs, fetched):
        assert f"hint: `cloudrun down {run_id}` ends its bill" in said.err
    assert not all(has_ended(pid) for pid in pids)
    ended: Typed = shell("down", run_id)
    assert ended.code == 0, ended.err
    assert f"nothing of {run_id} is left to bring home: its folder was removed from its machine" in ended.err
    assert all(has_ended(pid) for pid in pids)
    assert [*(shell.home / "local").iterdir(), *(shell.home / "local-locks").iterdir()] == []
    (row,) = shell("ps", "--all", "--json").json
    assert (row["phase"], row["billing"]) == ("failed", False)


def test_following_it_ends(shell: Shell) -> None:
    launching = shell.start("launch", "--yes", shell.job(JOB))
    place = shell.home / "local"
    wait_for(lambda: any(b"begun" in log.read_bytes() for log in place.glob("*/log.txt")))
    (folder,) = place.iterdir()
    remove(folder)
    _, said = launching.communicate(timeout=90)
    assert launching.returncode == 1
    assert "its folder was removed from its machine" in said
    assert list(place.iterdir()) == []


def test_on_a_rented_machine_that_is_up_it_is_no_reason_to_keep_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    ledger, run = rented(tmp_path / "home", run_uri=folder.as_uri(), folder=str(tmp_path / "results"))
    context = Context(ledger, cast("Backend", OneMachine(JobState.ACTIVE)))
    reader = LogReader(open_store(folder.as_uri()))
    assert look(run, context).message == "it left no result: its folder was removed from its machine"
    assert follow(run, context, reader=reader).phase is Phase.FAILED
    run = ledger.get("r")
    with pytest.raises(StoreError, match="nothing of `r` is left on its machine"):
        copy_home(run, ledger, to=None)
    assert bring_home(run, context) == run
    ended = down(run, context, force=False)
    assert (ended.phase, ended.may_bill) == (Phase.FAILED, False)


def test_the_watchdog_ends_a_machine_whose_folder_was_removed_in_mid_training(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "scancel").write_text(SCANCEL.format(folder=tmp_path).replace("/scancel\n", "/called\n"))
    (tmp_path / "scancel").chmod(0o755)
    order = replace(an_order(f"echo $$ > {tmp_path}/pid; sleep 300", max_hours=1.0), ending="slurm")
    (folder / "order.json").write_text(order.as_json())
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    watchdog = subprocess.Popen(program("impatient_watchdog", folder), cwd=CHECKOUT, env=environment)
    (tmp_path / "watchdog.pid").write_text(str(watchdog.pid))
    try:
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
        remove(folder)
        watchdog.wait(30)
        assert (tmp_path / "called").exists()
        wait_for(lambda: has_ended(int((tmp_path / "pid").read_text())))
    finally:
        watchdog.kill()
        watchdog.wait()


def test_this_computers_processes_are_found_without_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "local" / "r"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        worker = subprocess.Popen(["sleep", "300"], pass_fds=(held.fileno(),))
    reaper = threading.Thread(target=worker.wait, daemon=True)
    reaper.start()
    (folder / "worker.pid").write_text(str(worker.pid))
    for name in ("lock", "worker.pid"):
        local._keep_beside(folder / name)
    remove(folder)
    backend, run = local.LocalBackend(tmp_path), a_skypilot_run(run_id="r", backend="local")
    assert backend.observe(run) is JobState.IDLE
    backend.release(run)
    reaper.join(10)
    assert worker.returncode == -signal.SIGTERM
    assert backend.observe(run) is JobState.ABSENT
    assert list((tmp_path / "local-locks").iterdir()) == []
