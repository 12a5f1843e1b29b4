"""The uploader as a real process beside a real worker: what the job writes is in the bucket, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudrun.protocol.order import Order, Step
from cloudrun.runs.refresh import read_result
from cloudrun.state.records import Phase
from cloudrun.stores.s3 import S3Store
from tests.support.orders import an_order
from tests.support.processes import wait_for
from tests.support.seaweedfs import BUCKET, SECRET, SeaweedFS

StartWorker = Callable[[Order], "subprocess.Popen[bytes]"]

WAITS = "echo weights > $CLOUDRUN_OUTPUT/best.pt; echo up; until [ -e $CLOUDRUN_OUTPUT/go ]; do sleep 0.05; done"


@pytest.fixture
def bucket(seaweedfs: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    for name, value in seaweedfs.env.items():
        monkeypatch.setenv(name, value)
    return S3Store(uri_of(tmp_path), seaweedfs.endpoint)


def uri_of(folder: Path) -> str:
    return f"s3://{BUCKET}/{folder.name}"


@pytest.fixture
def order(seaweedfs: SeaweedFS, tmp_path: Path) -> Callable[..., Order]:
    def stored_order(script: str, **changes: Any) -> Order:
        store = {"store_uri": uri_of(tmp_path), "endpoint": seaweedfs.endpoint}
        return an_order(script, **{**store, **changes})

    return stored_order


@pytest.fixture
def start(tmp_path: Path, bucket: S3Store) -> Iterator[StartWorker]:
    started = []

    def start_worker(order: Order) -> subprocess.Popen[bytes]:
        (tmp_path / "order.json").write_text(order.as_json())
        process = subprocess.Popen([sys.executable, "-m", "cloudrun.worker", str(tmp_path)])
        started.append(process)
        return process

    yield start_worker
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def uploader_of(worker: subprocess.Popen[bytes]) -> int:
    found = subprocess.run(
        ["pgrep", "-P", str(worker.pid), "-f", "cloudrun.uploader"], capture_output=True, text=True, check=False
    )
    return int(found.stdout.split()[0])


def test_the_worker_ends_once_everything_is_in_the_bucket(
    start: StartWorker, order: Callable[..., Order], bucket: S3Store, tmp_path: Path
) -> None:
    bucket.put("result.json", b"of the attempt before")
    script = "mkdir $CLOUDRUN_OUTPUT/checkpoints; echo weights > $CLOUDRUN_OUTPUT/checkpoints/best.pt; "
    assert start(order(script + "echo half > $CLOUDRUN_OUTPUT/last.pt.tmp; echo one")).wait(30) == 0
    assert [(entry.key, bucket.read(entry.key)) for entry in bucket.entries("out")] == [
        ("out/checkpoints/best.pt", b"weights\n")
    ]
    assert bucket.read("result.json") == (tmp_path / "result.json").read_bytes()
    log = (bucket.read("log.txt") or b"").decode()
    assert "one\n" in log
    assert f"all results are in {uri_of(tmp_path)}" in log
    assert (tmp_path / "stored").exists()


def test_no_credential_is_written_to_a_file(start: StartWorker, order: Callable[..., Order], tmp_path: Path) -> None:
    assert start(order("true")).wait(30) == 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_what_a_killed_uploader_has_sent_is_not_sent_again_by_the_next(
    start: StartWorker, order: Callable[..., Order], bucket: S3Store, seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    worker = start(order(WAITS))
    wait_for(lambda: bucket.read("out/best.pt") is not None)
    before = seaweedfs.chunks(f"{tmp_path.name}/out/best.pt")
    os.kill(uploader_of(worker), signal.SIGKILL)
    wait_for(lambda: "starting it again" in (tmp_path / "log.txt").read_text())
    (tmp_path / "out" / "go").touch()
    assert worker.wait(30) == 0
    assert bucket.read("result.json") == (tmp_path / "result.json").read_bytes()
    assert seaweedfs.chunks(f"{tmp_path.name}/out/best.pt") == before
    assert (tmp_path / "log.txt").read_text().count("the uploader ended with -9; starting it again") == 1


def test_a_signal_to_everybody_on_the_machine_leaves_the_uploader_time_for_what_the_job_saves(
    order: Callable[..., Order], bucket: S3Store, tmp_path: Path
) -> None:
    (tmp_path / "order.json").write_text(order("true").as_json())
    (tmp_path / "out").mkdir()
    (tmp_path / "status.json").write_text("{}")
    uploader = subprocess.Popen([sys.executable, "-m", "cloudrun.uploader", str(tmp_path), "--every", "0.1"])
    wait_for(lambda: bucket.read("status.json") is not None)
    uploader.terminate()
    (tmp_path / "out" / "last.pt").write_bytes(b"saved")
    wait_for(lambda: bucket.read("out/last.pt") == b"saved")
    (tmp_path / "result.json").write_text('{"reason": "finished", "exit_code": 0}')
    assert uploader.wait(60) == 0
    assert (tmp_path / "stored").exists()


def test_a_rented_machine_that_is_taken_away_leaves_all_of_it_in_the_bucket_and_the_true_reason(
    start: StartWorker, order: Callable[..., Order], bucket: S3Store
) -> None:
    script = "trap 'echo saved > $CLOUDRUN_OUTPUT/last.pt; exit 75' TERM; "
    worker = start(order(script + WAITS, ending="slurm"))
    wait_for(lambda: bucket.read("out/best.pt") is not None)
    worker.terminate()
    assert worker.wait(60) == 75
    result = read_result(bucket)
    assert result is not None
    assert (result.reason, result.phase) == ("preempted", Phase.PREEMPTED)
    assert bucket.read("out/last.pt") == b"saved\n"


def test_a_store_that_is_down_for_a_while_gets_everything_in_the_end_and_the_job_does_not_notice(
    start: StartWorker, order: Callable[..., Order], bucket: S3Store, seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    worker = start(order(WAITS))
    wait_for(lambda: bucket.read("out/best.pt") is not None)
    seaweedfs.stop()
    (tmp_path / "out" / "go").touch()
    wait_for((tmp_path / "result.json").exists)
    wait_for(lambda: "does not answer" in (tmp_path / "log.txt").read_text())
    assert '"finished"' in (tmp_path / "result.json").read_text()
    assert worker.poll() is None  # the results lie here alone
    seaweedfs.start()
    assert worker.wait(120) == 0
    assert bucket.read("result.json") == (tmp_path / "result.json").read_bytes()
    told = [line for line in (tmp_path / "log.txt").read_text().splitlines() if "does not answer" in line]
    assert len(told) == len(set(told))  # each once, however often it tried; another file is another line


def test_the_log_of_a_set_up_that_failed_reaches_the_bucket(
    start: StartWorker, order: Callable[..., Order], bucket: S3Store
) -> None:
    fails = Step("setup", ["bash", "-c", "echo no space; exit 9"])
    assert start(order("true", setup=[fails])).wait(30) == 1
    assert b"no space\n" in (bucket.read("log.txt") or b"")
    assert b"setup_failed" in (bucket.read("result.json") or b"")


def test_the_uploader_comes_when_the_set_up_has_made_its_python(
    start: StartWorker, order: Callable[..., Order], bucket: S3Store, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    (tmp_path / "made").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "made").chmod(0o755)
    makes = Step("store", ["mv", str(tmp_path / "made"), str(python)])
    assert start(order("true", setup=[makes], python=str(python))).wait(30) == 0
    assert bucket.read("result.json") == (tmp_path / "result.json").read_bytes()


def test_results_at_home_end_the_wait_although_the_bucket_cannot_be_reached(
    start: StartWorker, order: Callable[..., Order], tmp_path: Path
) -> None:
    worker = start(order("true", endpoint="http://127.0.0.1:9"))
    wait_for((tmp_path / "result.json").exists)
    (tmp_path / "home").touch()
    worker.terminate()  # as the end of the machine does
    assert worker.wait(20) == 0  # the bucket would be waited for 30 s
    assert not (tmp_path / "stored").exists()


def test_links_are_followed_and_a_name_that_is_no_text_is_left_out_and_said(
    start: StartWorker, order: Callable[..., Order], bucket: S3Store, tmp_path: Path
) -> None:
    script = (
        "mkdir scratch; echo weights > scratch/e1.pt; ln -s $PWD/scratch $CLOUDRUN_OUTPUT/checkpoints; "
        "ln -s $CLOUDRUN_OUTPUT $CLOUDRUN_OUTPUT/loop; echo x > $CLOUDRUN_OUTPUT/$(printf 'caf\\351')"
    )
    start(order(script))
    wait_for((tmp_path / "stored").exists)
    assert [entry.key for entry in bucket.entries("out")] == ["out/checkpoints/e1.pt"]
    assert "caf\\udce9 is left out: its name is not UTF-8" in (tmp_path / "log.txt").read_text()


def test_what_a_bucket_cannot_take_is_renamed_or_named_and_keeps_nothing_waiting(
    start: StartWorker, order: Callable[..., Order], tmp_path: Path, bucket: S3Store
) -> None:
    script = (
        "cd $CLOUDRUN_OUTPUT; echo weights > best.pt; mkfifo pipe; deep=$(printf 'd%.0s' $(seq 200));"
        "mkdir -p $deep/$deep/$deep/$deep/$deep; echo deep > $deep/$deep/$deep/$deep/$deep/f;"
        "rm -f ../log.index; mkfifo ../log.index"
    )
    assert start(order(script)).wait(60) == 0
    best, renamed = bucket.entries("out")
    assert (best.key, renamed.size_bytes) == ("out/best.pt", 5)
    assert renamed.key.startswith("out/renamed/")
    assert b"out/pipe is left out: neither a file nor a folder" in (bucket.read("log.txt") or b"")
