"""`cloudrun resume` as typed: a run goes on where it was, and an attempt that fails loses nothing."""

from __future__ import annotations

import signal
import time

from cloudrun.state.ledger import Ledger
from tests.support.local_jobs import TINY
from tests.support.shell import Shell


def test_a_run_goes_on_where_it_was_with_its_log_and_checkpoint(shell: Shell) -> None:
    job = """\
name: counter
infra: local
data: {source: .}
run: |
  mkdir -p $CLOUDRUN_OUTPUT/checkpoints
  echo x >> $CLOUDRUN_OUTPUT/checkpoints/last.pt
  echo "attempt $(wc -l < $CLOUDRUN_OUTPUT/checkpoints/last.pt)"
"""
    run_id = shell("launch", shell.job(job)).out.strip()
    done = shell("resume", run_id)
    assert done.code == 0
    assert done.out.strip() == run_id
    assert "attempt 2" in done.err
    assert "attempt 1" not in done.err  # only what is new is shown
    log = (shell.folder / "runs" / run_id / "log.txt").read_text()
    assert [line for line in log.splitlines() if line.startswith("attempt")] == ["attempt 1", "attempt 2"]


def test_a_run_without_a_checkpoint_cannot_be_resumed(shell: Shell) -> None:
    run_id = shell("launch", shell.job(TINY)).out.strip()
    (shell.folder / "runs" / run_id / "checkpoints" / "best.pt").rename(shell.folder / "gone.pt")
    done = shell("resume", run_id)
    assert done.code == 1
    assert "no checkpoint" in done.err


def test_a_resume_that_fails_to_start_loses_nothing_of_the_attempts_before_it(shell: Shell) -> None:
    (shell.folder / "code").mkdir()
    job = """\
name: own
infra: local
data: {source: .}
workdir: code
run: mkdir -p $CLOUDRUN_OUTPUT/checkpoints; echo precious > $CLOUDRUN_OUTPUT/checkpoints/last.pt
"""
    run_id = shell("launch", "-d", shell.job(job)).out.strip()
    assert shell("logs").code == 0  # follows to the end
    with (shell.folder / "code" / "huge.bin").open("wb") as huge:
        huge.truncate(201_000_000)  # more than is sent as code: the start fails, as it may for any reason
    done = shell("resume", run_id)
    assert done.code == 1
    assert "201 MB" in done.err
    assert (shell.folder / "runs" / run_id / "checkpoints" / "last.pt").read_text() == "precious\n"
    assert shell("ps", "--json").json == []


def test_a_resume_that_is_interrupted_while_nothing_watches_the_machine_ends_it(shell: Shell) -> None:
    job = "name: short\ninfra: local\ndata: {source: .}\nrun: echo precious > $CLOUDRUN_OUTPUT/x\n"
    run_id = shell("launch", "-d", shell.job(job)).out.strip()
    until = time.monotonic() + 60
    while not (shell.home / "local" / run_id / "result.json").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    with shell.start("resume", "--yes", run_id) as resume:
        assert resume.stderr is not None
        for line in resume.stderr:
            if "its machine is up: going on there" in line:
                break
        time.sleep(0.5)  # the last attempt's watchdog has been told to leave, and is waited for
        resume.send_signal(signal.SIGINT)
        said = resume.stderr.read()
    assert resume.returncode == 130, said
    assert "interrupted: ending the machine, once its results are home" in said
    assert "Traceback" not in said
    assert (shell.folder / "runs" / run_id / "x").read_text() == "precious\n"
    run = Ledger(shell.home).get(run_id)
    assert (run.may_bill, run.end_is_proven) == (False, True)
