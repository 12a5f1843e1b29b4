"""A run whose machine was taken away goes on by itself, as often as its job says, within what was agreed to."""

from __future__ import annotations

import json
import time

import pytest

from cloudrun.runs.console import Console
from cloudrun.runs.tend import keep_going
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import Phase
from cloudrun.stores.s3 import S3Store
from tests.support.lost_machine import lose_the_machine
from tests.support.runs import a_skypilot_run
from tests.support.seaweedfs import BUCKET, SeaweedFS
from tests.support.shell import Shell, wait_until_log_has

# Each attempt adds a line to its checkpoint. The third one ends.
JOB = """\
name: spot
infra: local
data: {source: .}
store: s3://results/spot
recoveries: 2
run: |
  mkdir -p $CLOUDRUN_OUTPUT/checkpoints
  echo x >> $CLOUDRUN_OUTPUT/checkpoints/last.pt
  attempt=$(wc -l < $CLOUDRUN_OUTPUT/checkpoints/last.pt)
  echo "attempt $attempt"
  until [ $attempt -ge ENDS ]; do sleep 0.05; done
"""


@pytest.fixture
def stored(shell: Shell, seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell that has the credentials and the server of the bucket."""
    shell.env.update(seaweedfs.env, AWS_ENDPOINT_URL=seaweedfs.endpoint)
    for name, value in seaweedfs.env.items():
        monkeypatch.setenv(name, value)
    return shell


def wait_until_stored(run_id: str, seaweedfs: SeaweedFS, checkpoint: bytes) -> None:
    bucket = S3Store(f"s3://{BUCKET}/spot/{run_id}", seaweedfs.endpoint)
    until = time.monotonic() + 60
    while bucket.read("out/checkpoints/last.pt") != checkpoint:
        assert time.monotonic() < until
        time.sleep(0.1)


def the_run(shell: Shell) -> str:
    until = time.monotonic() + 60
    while not (rows := shell("ps", "--json").json):
        assert time.monotonic() < until
    run_id: str = rows[0]["run_id"]
    return run_id


def test_an_attached_launch_goes_on_through_two_lost_machines_with_one_log_and_one_receipt(
    stored: Shell, seaweedfs: SeaweedFS
) -> None:
    launched = stored.start("launch", stored.job(JOB.replace("ENDS", "3")))
    run_id = the_run(stored)
    for attempt in (1, 2):
        wait_until_log_has(stored, f"attempt {attempt}")
        wait_until_stored(run_id, seaweedfs, b"x\n" * attempt)
        lose_the_machine(stored, run_id)
    out, said = launched.communicate(timeout=120)
    assert (launched.returncode, out.strip()) == (0, run_id), said
    assert "it goes on on another one, and may 1 more times" in said
    assert "it goes on on another one, and may 0 more times" in said
    folder = stored.folder / "runs" / run_id
    attempts = [line for line in (folder / "log.txt").read_text().splitlines() if line.startswith("attempt")]
    assert attempts == ["attempt 1", "attempt 2", "attempt 3"]
    assert json.loads((folder / "cost.json").read_text())["machines"] == 3
    run = Ledger(stored.home).get(run_id)
    assert (run.phase, run.recovered) == (Phase.SUCCEEDED, 2)


def test_more_machines_than_agreed_are_not_taken(stored: Shell, seaweedfs: SeaweedFS) -> None:
    run_id = stored("launch", "-d", "--set", "recoveries=1", stored.job(JOB.replace("ENDS", "9"))).out.strip()
    for attempt in (1, 2):
        wait_until_log_has(stored, f"attempt {attempt}")
        wait_until_stored(run_id, seaweedfs, b"x\n" * attempt)
        lose_the_machine(stored, run_id)
        assert stored("tend").code == 0
    run = Ledger(stored.home).get(run_id)
    assert (run.phase, run.recovered, run.may_bill) == (Phase.LOST, 1, False)
    assert "no run needs anything" in stored("tend").err


def test_tend_lets_a_run_go_on_that_was_lost_while_the_laptop_was_off(stored: Shell, seaweedfs: SeaweedFS) -> None:
    run_id = stored("launch", "-d", stored.job(JOB.replace("ENDS", "2"))).out.strip()
    wait_until_log_has(stored, "attempt 1")
    wait_until_stored(run_id, seaweedfs, b"x\n")
    lose_the_machine(stored, run_id)
    assert stored("ps").code == 0  # finds out
    assert f"{run_id} lost its machine, and waits to go on: `cloudrun tend`" in stored("ps").err
    tended = stored("tend", "--json")
    assert tended.code == 0, tended.err
    assert [row["run_id"] for row in tended.json] == [run_id]
    logged = stored("logs")
    assert logged.code == 0
    assert "attempt 2" in logged.out
    assert stored("down", run_id).code == 0


def test_a_run_that_lost_its_machine_before_a_checkpoint_begins_anew(stored: Shell) -> None:
    job = JOB.replace("ENDS", "1").replace("  mkdir", "  [ -e $HOME/second ] || sleep 600\n  mkdir")
    run_id = stored("launch", "-d", stored.job(job)).out.strip()
    wait_for_job(stored, run_id)
    lose_the_machine(stored, run_id)
    (stored.folder / "second").touch()
    assert stored("tend").code == 0
    assert "attempt 1" in stored("logs").out


def wait_for_job(shell: Shell, run_id: str) -> None:
    until = time.monotonic() + 60
    while not (shell.home / "local" / run_id / "job.pid").exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_run_that_failed_by_itself_or_was_stopped_does_not_go_on() -> None:
    job = {"budget": {"max_cost": 5.0, "max_hours": 4.0}, "recoveries": 3}
    for phase in (Phase.FAILED, Phase.STOPPED, Phase.OVER_BUDGET, Phase.SUCCEEDED, Phase.RUNNING):
        assert not a_skypilot_run(phase=phase, job=job).was_taken_away
    for phase in (Phase.PREEMPTED, Phase.LOST):
        assert a_skypilot_run(phase=phase, job=job).was_taken_away
        assert not a_skypilot_run(phase=phase, job=job, recovered=3).was_taken_away
        assert not a_skypilot_run(phase=phase).was_taken_away


@pytest.mark.parametrize(("recoveries", "left"), [(5, 4), (1, 0), (0, 0), ("many", 0)])
def test_recoveries_are_counted_down(recoveries: object, left: int) -> None:
    job = {"budget": {"max_cost": 5.0, "max_hours": 4.0}, "recoveries": recoveries}
    assert a_skypilot_run(recovered=1, job=job).recoveries_left == left


def test_what_keeps_a_run_from_going_on_is_said_and_changes_nothing(shell: Shell) -> None:
    said: list[str] = []
    ledger = Ledger(shell.home)
    job = {"name": "r", "budget": {"max_cost": 5.0, "max_hours": 4.0}, "recoveries": 3, "data": {"source": "/gone"}}
    run = a_skypilot_run(phase=Phase.LOST, job={**job, "infra": "local", "run": "true"}, backend="local")
    ledger.add(run)
    assert keep_going(run, ledger, Console(said.append)) == run
    assert said[-1].startswith("r does not go on by itself: ")
