"""A job with a `store`, as typed: what it wrote is in the bucket, and from there everything still works."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from cloudrun.stores.s3 import S3Store
from tests.support.lost_machine import end_processes, lose_the_machine
from tests.support.seaweedfs import BUCKET, SeaweedFS
from tests.support.shell import Shell, wait_until_log_has

JOB = """\
name: kept
infra: local
data: {source: .}
store: s3://results/teams/leaf
run: |
  echo "line one"
  mkdir -p $CLOUDRUN_OUTPUT/checkpoints
  echo x >> $CLOUDRUN_OUTPUT/checkpoints/last.pt
  echo "attempt $(wc -l < $CLOUDRUN_OUTPUT/checkpoints/last.pt)"
"""
WAITS = JOB + "  until [ -e $CLOUDRUN_OUTPUT/go ]; do sleep 0.05; done\n"


@pytest.fixture
def stored(shell: Shell, seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell that has the credentials and the server of the bucket."""
    shell.env.update(seaweedfs.env, AWS_ENDPOINT_URL=seaweedfs.endpoint)
    for name, value in seaweedfs.env.items():
        monkeypatch.setenv(name, value)
    return shell


def wait_until(shell: Shell, run_id: str, name: str) -> None:
    until = time.monotonic() + 60
    while not (shell.home / "local" / run_id / name).exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def finished_run_whose_machine_is_gone(shell: Shell) -> str:
    run_id = shell("launch", "-d", shell.job(JOB)).out.strip()
    wait_until(shell, run_id, "stored")
    end_processes(shell.home / "local" / run_id)
    shutil.rmtree(shell.home / "local" / run_id)
    return run_id


def test_an_attached_launch_leaves_its_results_at_home_and_in_the_bucket_from_where_they_come_again(
    stored: Shell, seaweedfs: SeaweedFS
) -> None:
    done = stored("launch", stored.job(JOB))
    assert done.code == 0
    run_id = done.out.strip()
    bucket = S3Store(f"s3://{BUCKET}/teams/leaf/{run_id}", seaweedfs.endpoint)
    assert (stored.folder / "runs" / run_id / "checkpoints" / "last.pt").read_bytes() == b"x\n"
    assert bucket.read("out/checkpoints/last.pt") == b"x\n"
    assert json.loads(bucket.read("result.json") or b"")["reason"] == "finished"
    shutil.rmtree(stored.folder / "runs" / run_id)
    assert stored("fetch").code == 0
    assert (stored.folder / "runs" / run_id / "checkpoints" / "last.pt").read_bytes() == b"x\n"


def test_a_run_that_ended_with_nobody_watching_is_found_in_the_bucket(stored: Shell) -> None:
    run_id = finished_run_whose_machine_is_gone(stored)
    del stored.env["AWS_ENDPOINT_URL"]  # the ledger remembers it
    logged = stored("logs")
    assert logged.code == 0
    assert "line one" in logged.out.splitlines()
    row = stored("ps", "--all", "--json").json[0]
    assert (row["run_id"], row["phase"], row["billing"]) == (run_id, "succeeded", False)
    fetched = stored("fetch", "--json").json
    assert fetched["complete"] is True
    folder = stored.folder / "runs" / run_id
    assert (folder / "checkpoints" / "last.pt").read_bytes() == b"x\n"
    assert {"log.txt", "cost.json", "job.yaml", "report.html"} < {path.name for path in folder.iterdir()}
    assert stored("report").code == 0


def test_a_damaged_result_in_the_bucket_is_not_brought_home(stored: Shell, seaweedfs: SeaweedFS) -> None:
    run_id = finished_run_whose_machine_is_gone(stored)
    client, key = seaweedfs.client(), f"teams/leaf/{run_id}/out/checkpoints/last.pt"
    metadata = client.head_object(Bucket=BUCKET, Key=key)["Metadata"]
    client.put_object(Bucket=BUCKET, Key=key, Body=b"y\n", Metadata=metadata)
    done = stored("fetch")
    assert done.code == 1
    assert "arrived damaged" in done.err
    assert not (stored.folder / "runs" / run_id / "checkpoints" / "last.pt").exists()


def test_a_machine_that_was_taken_away_is_lost_and_the_run_goes_on_from_the_bucket(
    stored: Shell, seaweedfs: SeaweedFS
) -> None:
    run_id = stored("launch", "-d", stored.job(WAITS)).out.strip()
    wait_until_log_has(stored, "attempt 1")
    bucket = S3Store(f"s3://{BUCKET}/teams/leaf/{run_id}", seaweedfs.endpoint)
    until = time.monotonic() + 60
    while bucket.read("out/checkpoints/last.pt") is None:
        assert time.monotonic() < until
        time.sleep(0.1)
    lose_the_machine(stored, run_id)
    assert stored("ps", "--all", "--json").json[0]["phase"] == "lost"
    assert not (stored.folder / "runs" / run_id).exists()
    resumed = stored.start("resume", run_id)
    wait_until_log_has(stored, "attempt 2")
    (stored.home / "local" / run_id / "out" / "go").touch()
    out, _ = resumed.communicate(timeout=60)
    assert (resumed.returncode, out.strip()) == (0, run_id)
    # All is home, so that the machine did not wait for the bucket: its end may be missing there.
    assert stored("ps", "--all", "--json").json[0]["phase"] == "succeeded"
    assert json.loads(bucket.read("result.json") or b'{"reason": "finished"}')["reason"] == "finished"


def test_a_run_is_not_called_lost_while_its_bucket_does_not_answer(stored: Shell, seaweedfs: SeaweedFS) -> None:
    run_id = finished_run_whose_machine_is_gone(stored)
    seaweedfs.stop()
    row = stored("ps", "--all", "--json").json[0]
    assert (row["phase"] in ("preparing", "running"), row["billing"]) == (True, False)
    done = stored("fetch", run_id)
    seaweedfs.start()
    assert (done.code, "does not answer" in done.err) == (1, True)
    assert stored("ps", "--all", "--json").json[0]["phase"] == "succeeded"


def test_down_brings_home_what_the_bucket_has(stored: Shell) -> None:
    run_id = finished_run_whose_machine_is_gone(stored)
    done = stored("down", run_id)
    assert done.code == 0
    assert (stored.folder / "runs" / run_id / "checkpoints" / "last.pt").exists()
    assert stored("ps", "--all", "--json").json[0]["phase"] == "succeeded"


def test_down_ends_a_machine_whose_results_are_stored_although_there_is_no_room_at_home(stored: Shell) -> None:
    run_id = stored("launch", "-d", stored.job(JOB)).out.strip()
    wait_until(stored, run_id, "stored")
    (stored.folder / "runs").write_text("in the way")
    done = stored("down", run_id)
    assert done.code == 0
    assert "all of them are in s3://results/teams/leaf/" in done.err
    assert stored("ps", "--json").json == []


@pytest.mark.parametrize("command", ["check", "launch"])
def test_a_bucket_that_cannot_be_written_is_found_before_anything_is_started(stored: Shell, command: str) -> None:
    done = stored(command, stored.job(JOB.replace("s3://results/", "s3://no-such-bucket/")))
    assert done.code == 1
    assert "error: there is no bucket `no-such-bucket`" in done.err
    assert "hint: " in done.err
    assert not list((stored.home / "ledger").glob("*.json"))


def test_the_check_leaves_nothing_in_the_bucket(stored: Shell, seaweedfs: SeaweedFS) -> None:
    store = f"s3://results/{stored.folder.name}"
    assert stored("check", stored.job(JOB.replace("s3://results/teams/leaf", store))).code == 0
    found = seaweedfs.client().list_objects_v2(Bucket=BUCKET, Prefix=f"{stored.folder.name}/")
    assert found["KeyCount"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--infra", "aws"], "`secrets` does not name AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"),
        (["--infra", "aws", "--set", "secrets=[AWS_ACCESS_KEY_ID]"], "does not name AWS_SECRET_ACCESS_KEY"),
        (["--set", "endpoint=ftp://x"], '"ftp://x" is not an endpoint'),
        (["--set", "store=null", "--set", "endpoint=http://x"], "`endpoint` is the server of a `store`"),
        (["--set", "store=gs://bucket"], "is not a store; write s3://BUCKET/PREFIX"),
    ],
)
def test_a_store_that_makes_no_sense_is_refused_for_free(stored: Shell, words: list[str], said: str) -> None:
    done = stored("launch", "--yes", stored.job(JOB), *words)
    assert done.code == 2
    assert said in done.err
    assert not list((stored.home / "ledger").glob("*.json"))


def test_a_job_without_a_store_asks_no_server(shell: Shell) -> None:
    shell.env["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    job = JOB.replace("store: s3://results/teams/leaf\n", "")
    done = shell("launch", shell.job(job))
    assert done.code == 0
    assert "endpoint" not in (shell.folder / "runs" / done.out.strip() / "log.txt").read_text()
