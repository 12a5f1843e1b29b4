"""A run on several machines: their workers as real processes, each with a folder of its own, over the loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudrun.backends.node_certificate import make_certificate
from cloudrun.protocol.messages import Result, StopRequest
from cloudrun.protocol.nodes import News
from cloudrun.protocol.order import Order, Step
from cloudrun.protocol.words import EndReason, NodeState
from cloudrun.worker.head import Head
from cloudrun.worker.wire import Line, NotWhole, read_tar, write_tar
from tests.support.checkout import CHECKOUT
from tests.support.orders import an_order

BOTH = 'echo "$CLOUDRUN_NODE_RANK of $CLOUDRUN_NODES at $CLOUDRUN_HEAD:$CLOUDRUN_HEAD_PORT" > $CLOUDRUN_OUTPUT/who; '


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def of_two(script: str, **changes: Any) -> Order:
    """For two machines, whose images the first one has."""
    fields: dict[str, Any] = {"run_id": "several", "data_arrives": True, "nodes": 2, "ports": free_ports(2)}
    return an_order(BOTH + script, **{**fields, **changes})


class Machines:
    """Each has `folder`/<number>/run, or with `shared` all have the first's."""

    def __init__(self, folder: Path, order: Order, *, shared: bool = False) -> None:
        self.folder = folder
        self.shared = shared
        self.order = order
        self.workers: dict[int, subprocess.Popen[bytes]] = {}
        certificate = make_certificate(order.run_id)
        for number in range(order.nodes):
            self.run_dir(number).mkdir(parents=True, exist_ok=True)
            (self.run_dir(number) / "nodes.pem").write_bytes(certificate)
            (self.run_dir(number) / "order.json").write_text(order.as_json())

    def run_dir(self, number: int) -> Path:
        return self.folder / ("0" if self.shared else str(number)) / "run"

    def own(self, number: int) -> Path:
        """Where machine `number` keeps its job's files."""
        run_dir = self.run_dir(number)
        return run_dir if number == 0 else run_dir.with_name(f"run.{number}")

    def start(self, number: int, *, worker: str = "cloudrun.worker", **env: str) -> subprocess.Popen[bytes]:
        addresses = "\n".join(["127.0.0.1"] * self.order.nodes)
        self.workers[number] = subprocess.Popen(
            [sys.executable, "-m", worker, str(self.run_dir(number))],
            cwd=CHECKOUT,
            env={**os.environ, "SKYPILOT_NODE_RANK": str(number), "SKYPILOT_NODE_IPS": addresses, **env},
        )
        return self.workers[number]

    def start_all(self) -> None:
        for number in range(self.order.nodes):
            self.start(number)

    def end(self) -> dict[str, Any]:
        """Once both workers have ended by themselves: the run's result."""
        for worker in self.workers.values():
            worker.wait(60)
        return self.result()

    def result(self, number: int = 0) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((self.own(number) / "result.json").read_text())
        return result

    def log(self) -> str:
        return (self.run_dir(0) / "log.txt").read_text()


Make = Callable[..., Machines]


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Make]:
    made: list[Machines] = []

    def make(order: Order, *, shared: bool = False) -> Machines:
        made.append(Machines(tmp_path, order, shared=shared))
        return made[-1]

    yield make
    for worker in [worker for one in made for worker in one.workers.values()]:
        if worker.poll() is None:
            worker.send_signal(signal.SIGTERM)
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
        worker.wait()


def wait_for(is_true: Callable[[], object], seconds: float = 40) -> None:
    until = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < until
        time.sleep(0.05)


def some_data(folder: Path) -> dict[str, bytes]:
    files = {f"train/class {number % 3}/ü{number}.jpg": os.urandom(number * 700) for number in range(40)}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return files


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def with_data(run: Machines) -> dict[str, bytes]:
    """All data are on the first machine."""
    files = some_data(run.run_dir(0) / "data")
    (run.run_dir(0) / "data.ready").touch()
    return files


# The first machine's job goes on for a while after the others have begun theirs.
FIRST_WAITS = 'if [ "$CLOUDRUN_NODE_RANK" = 0 ]; then sleep 1.5; fi; '


def test_another_machine_gets_data_weights_and_secrets_and_all_begin_together(machines: Make) -> None:
    run_id = f"several-{os.getpid()}"
    run = machines(of_two('echo "$TOKEN" > $CLOUDRUN_OUTPUT/token; ' + FIRST_WAITS, run_id=run_id))
    files = with_data(run)
    (run.run_dir(0) / "weights").mkdir()
    (run.run_dir(0) / "weights/w.pth").write_bytes(b"weights")
    Path(f"/dev/shm/cloudrun-{run_id}.json").write_text(json.dumps({"TOKEN": "secret"}))
    run.start_all()
    assert run.end()["reason"] == "finished"
    assert run.result(1)["reason"] == "finished"
    assert content_of(run.own(1) / "data") == files
    assert (run.run_dir(1) / "weights/w.pth").read_bytes() == b"weights"
    who = [(run.own(number) / "out/who").read_text() for number in (0, 1)]
    assert [text.split(" at ")[0] for text in who] == ["0 of 2", "1 of 2"]
    assert who[0].split(" at ")[1] == who[1].split(" at ")[1] != "127.0.0.1:0\n"
    assert [(run.own(number) / "out/token").read_text() for number in (0, 1)] == ["secret\n"] * 2
    assert "cloudrun: node 1: 40 files from the head in" in run.log()
    assert [worker.returncode for worker in run.workers.values()] == [0, 0]


def test_what_machines_share_is_made_once(machines: Make) -> None:
    """A cluster's home folder, say."""
    make = Step("data", ["bash", "-c", 'mkdir -p "$CLOUDRUN_DATA" && echo made >> "$CLOUDRUN_DATA/count"'])
    order = of_two('cp "$CLOUDRUN_DATA/count" $CLOUDRUN_OUTPUT; ' + FIRST_WAITS, make_data=make, data_arrives=False)
    run = machines(order, shared=True)
    run.start_all()
    assert run.end()["reason"] == "finished"
    assert [(run.own(number) / "out/count").read_text() for number in (0, 1)] == ["made\n"] * 2


@pytest.mark.slow
def test_machines_that_fetch_their_data_by_themselves_do_so_each(machines: Make) -> None:
    make = Step("data", ["bash", "-c", 'mkdir -p "$CLOUDRUN_DATA" && echo made >> "$CLOUDRUN_DATA/count"'])
    run = machines(of_two(FIRST_WAITS, make_data=make, data_arrives=False))
    run.start_all()
    assert run.end()["reason"] == "finished"
    assert [(run.own(number) / "data/count").read_text() for number in (0, 1)] == ["made\n"] * 2


def test_a_machine_whose_set_up_fails_ends_the_run_and_is_named(machines: Make) -> None:
    setup = Step("setup", ["bash", "-c", '[ "$SKYPILOT_NODE_RANK" = 0 ] || { echo "error: no room"; exit 3; }'])
    run = machines(of_two("true", setup=[setup]))
    with_data(run)
    run.start_all()
    end = run.end()
    assert end["reason"] == "setup_failed"
    assert end["message"] == "node 1 of 2 (from 0): set-up step `setup` ended with 3: no room"
    assert "node 1: error: no room" in run.log()


@pytest.mark.slow
def test_a_job_that_fails_on_one_machine_is_stopped_on_all(machines: Make) -> None:
    script = '[ "$CLOUDRUN_NODE_RANK" = 0 ] || { echo "error: card lost"; exit 4; }; sleep 30'
    run = machines(of_two(script))
    with_data(run)
    run.start_all()
    end = run.end()
    assert (end["reason"], end["exit_code"]) == ("failed", 1)
    assert end["message"] == "node 1 of 2 (from 0): the job ended with exit code 4: card lost"


@pytest.mark.slow
def test_a_worker_that_is_killed_on_one_machine_ends_the_run(machines: Make) -> None:
    run = machines(of_two("sleep 30"))
    with_data(run)
    run.start_all()
    wait_for((run.own(1) / "out/who").exists)
    os.kill(int((run.own(1) / "attempt.pid").read_text()), signal.SIGKILL)
    assert run.end()["message"] == "node 1 of 2 (from 0): its worker was killed (exit code -9)"


def test_a_second_start_on_one_machine_begins_no_second_job(machines: Make) -> None:
    """As Ray starts its task again, once it was killed."""
    run = machines(of_two("echo $$ >> $CLOUDRUN_OUTPUT/pids; sleep 30"))
    with_data(run)
    run.start_all()
    wait_for(lambda: (run.own(1) / "out/pids").exists() and (run.run_dir(1) / "node1.json").exists())
    run.workers[1].kill()
    run.workers[1].wait()
    run.start(1)
    assert run.end()["message"] == "node 1 of 2 (from 0): its watchdog was killed"
    assert len((run.own(1) / "out/pids").read_text().split()) == 1


def test_who_asks_the_first_machine_to_stop_stops_all(machines: Make) -> None:
    script = "trap 'echo saved > $CLOUDRUN_OUTPUT/last; exit 75' TERM; touch $CLOUDRUN_OUTPUT/up; "
    run = machines(of_two(script + "while :; do sleep 0.05; done"))
    with_data(run)
    run.start_all()
    wait_for(lambda: all((run.own(number) / "out/up").exists() for number in (0, 1)))
    (run.run_dir(0) / "stop").touch()
    assert run.end()["reason"] == "stopped"
    assert [(run.own(number) / "out/last").read_text() for number in (0, 1)] == ["saved\n"] * 2


def test_a_machine_that_does_not_come_ends_the_run_in_time(machines: Make) -> None:
    run = machines(of_two("true", idle_s=3.0))
    with_data(run)
    run.start(0)
    end = run.end()
    assert (end["reason"], end["message"]) == ("failed", "node 1 of 2 (from 0) has not come within 0.05 minutes")


def test_a_machine_without_its_head_gives_up(machines: Make, capfd: pytest.CaptureFixture[str]) -> None:
    run = machines(of_two("true", idle_s=2.0))
    assert run.start(1).wait(30) == 1
    assert "cloudrun: node 1 cannot reach its head at 127.0.0.1: " in capfd.readouterr().err


SCANCEL = """\
#!/bin/sh
echo "$@" >> {folder}/scancel
kill -KILL $PPID
"""


def test_a_machine_whose_head_is_lost_stops_its_job_and_ends_itself(machines: Make, tmp_path: Path) -> None:
    """Else it would bill on: SkyPilot's idle timer went with the head."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/scancel").write_text(SCANCEL.format(folder=tmp_path))
    (tmp_path / "bin/scancel").chmod(0o755)
    script = "trap 'echo saved > $CLOUDRUN_OUTPUT/last; exit 75' TERM; while :; do sleep 0.05; done"
    run = machines(of_two(script, idle_s=5.0, ending="slurm"))
    with_data(run)
    head = run.start(0)
    node = run.start(
        1,
        worker="tests.support.programs.impatient_node",
        SLURM_JOB_ID="7",
        PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    )
    wait_for((run.own(1) / "out/who").exists)
    head.kill()
    node.wait(60)
    assert (run.own(1) / "out/last").read_text() == "saved\n"
    assert run.result(1)["message"].startswith("the head has said nothing for")
    assert (tmp_path / "scancel").read_text() == "--full --signal=TERM 7\n"


def test_a_stranger_is_told_nothing(machines: Make, tmp_path: Path) -> None:
    run = machines(of_two("true", idle_s=30.0))
    with_data(run)
    run.start(0)
    (tmp_path / "stranger.pem").write_bytes(make_certificate("several"))
    known = [Line(run.run_dir(0) / "nodes.pem", "127.0.0.1", port) for port in run.order.ports]
    port = 0

    def is_heard() -> bool:
        nonlocal port
        for line, candidate in zip(known, run.order.ports, strict=True):
            try:
                line.tell("/secrets", {})
            except OSError:
                continue
            port = candidate
            return True
        return False

    wait_for(is_heard)
    with pytest.raises(ssl.SSLError):
        Line(tmp_path / "stranger.pem", "127.0.0.1", port).tell("/secrets", {})
    with pytest.raises(OSError, match="404"):
        Line(run.run_dir(0) / "nodes.pem", "127.0.0.1", port).fetch("/../nodes.pem", tmp_path / "in")
    with pytest.raises(OSError, match="400"):
        Line(run.run_dir(0) / "nodes.pem", "127.0.0.1", port).tell("/tell", {"rank": 7, "state": "ready"})


def test_a_folder_that_breaks_off_is_not_taken_for_whole(tmp_path: Path) -> None:
    some_data(tmp_path / "from")
    with (tmp_path / "tar").open("wb") as file:
        write_tar(tmp_path / "from", file)
    whole = (tmp_path / "tar").read_bytes()
    files = whole.index(b".cloudrun-count")  # from there on, all have come
    for length in [*range(0, files, files // 37), files]:
        with (tmp_path / "cut").open("wb") as file:
            file.write(whole[:length])
        with (tmp_path / "cut").open("rb") as file, pytest.raises(NotWhole):
            read_tar(file, tmp_path / "to")


def test_a_folder_whose_paths_lead_out_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../out"))
    with (tmp_path / "tar").open("rb") as file, pytest.raises(NotWhole, match="leads out"):
        read_tar(file, tmp_path / "to")


@pytest.mark.parametrize("reason", [EndReason.BUDGET, EndReason.STALLED, EndReason.PREEMPTED])
def test_the_run_ends_for_the_reason_for_which_another_machine_has_ended(tmp_path: Path, reason: EndReason) -> None:
    head = Head(tmp_path, an_order("true", nodes=2), address="127.0.0.1", secret_values={})
    head.hear(News(1, NodeState.ENDED, Result(reason, 1, "why", "", "")).as_plain())
    head.look()
    assert StopRequest.read(tmp_path / "stop") == StopRequest(reason, "node 1 of 2 (from 0): why")
