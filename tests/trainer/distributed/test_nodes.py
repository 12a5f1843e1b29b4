"""`python -m trainer train --nodes 2`: two launchers on this computer, as on two machines.

They share the network alone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from tests.support.checkout import CHECKOUT
from tests.support.trainer_runs import TINY
from trainer.distributed.nodes import Nodes, meet, not_met
from trainer.distributed.ranks import interface_to
from trainer.errors import ConfigError, TrainerError
from trainer.outputs import checkpoint


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Machines:
    """Each has images, a config and an output folder of its own."""

    def __init__(
        self, folder: Path, data: Path, config: dict[str, object], *, networks: Sequence[str] = (), host: str
    ) -> None:
        """`networks`: a namespace for each, in which the first is `host`; none: they share this computer's."""
        self.folder = folder
        self.networks = networks
        self.address = (host, free_port())
        self.head = "{}:{}".format(*self.address)
        self.launchers: dict[int, subprocess.Popen[bytes]] = {}
        for number in (0, 1):
            shutil.copytree(data, folder / f"{number}/data")
            (folder / f"{number}/c.yaml").write_text(yaml.safe_dump(config))

    def configure(self, number: int, **changes: object) -> None:
        path = self.folder / f"{number}/c.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))

    def start(self, *numbers: int, words: Sequence[str] = ()) -> None:
        for number in numbers:
            own = self.folder / str(number)
            command = [sys.executable, "-m", "trainer", "train", "--config", str(own / "c.yaml")]
            command += ["--data", str(own / "data"), "--out", str(own / "out")]
            command += ["--nodes", "2", "--node-rank", str(number), "--head", self.head, *words]
            if self.networks:
                command = ["ip", "netns", "exec", self.networks[number], *command]
            with (own / "log").open("a") as log:
                self.launchers[number] = subprocess.Popen(command, cwd=CHECKOUT, stderr=log, start_new_session=True)

    def log(self, number: int) -> str:
        return (self.folder / str(number) / "log").read_text()

    def codes(self, seconds: float = 100) -> list[int]:
        """Of both, once they have ended."""
        return [self.launchers[number].wait(seconds) for number in sorted(self.launchers)]

    def wait_for(self, number: int, text: str) -> None:
        deadline = time.monotonic() + 100
        while text not in self.log(number):
            assert time.monotonic() < deadline, self.log(0) + self.log(1)
            assert self.launchers[number].poll() is None, self.log(number)
            time.sleep(0.05)

    def wait_until_met_at(self) -> None:
        """The first machine listens."""
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(self.address).close()
                return
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, self.log(0)
                time.sleep(0.05)

    def wait_for_trainers(self) -> None:
        """Both launchers have started a process; none can have imported torch."""
        deadline = time.monotonic() + 60
        while any(not set(_below(one.pid)) & set(self.processes()) for one in self.launchers.values()):
            assert time.monotonic() < deadline, self.log(0) + self.log(1)
            time.sleep(0.001)

    def processes(self) -> list[int]:
        """All that work for this run, launchers and trainers."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                is_zombie = b") Z " in (folder / "stat").read_bytes()
            except OSError:
                continue
            if self.head.encode() in words and not is_zombie:
                found.append(int(folder.name))
        return found

    def wait_until_gone(self) -> None:
        deadline = time.monotonic() + 60
        while self.processes():
            assert time.monotonic() < deadline, self.log(0) + self.log(1)
            time.sleep(0.1)

    def end(self) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for launcher in self.launchers.values():
            launcher.wait()


@pytest.fixture
def machines(tmp_path: Path, leaves: Path) -> Iterator[Callable[..., Machines]]:
    """Two of them, with changes to a config of seconds."""
    made: list[Machines] = []

    def make(networks: Sequence[str] = (), host: str = "127.0.0.1", **changes: object) -> Machines:
        config = {**TINY, "backbones": ["test_resnet"], **changes}
        made.append(Machines(tmp_path, leaves, config, networks=networks, host=host))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def networks() -> Iterator[tuple[str, str]]:
    """Two network namespaces, 10.77.0.1 and 10.77.0.2, with a cable between them and nothing else."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs Linux, root and iproute2")
    names = f"cr{os.getpid()}a", f"cr{os.getpid()}b"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for number, name in enumerate(names, start=1):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                ip("-n", name, "link", "set", link, "up")
    except subprocess.CalledProcessError as err:
        _remove(names)
        pytest.skip(f"no network namespaces here: {err.stderr.decode().strip()}")
    yield names
    _remove(names)


def _remove(names: Sequence[str]) -> None:
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


@pytest.mark.slow
@linux
def test_two_machines_learn_what_two_processes_of_one_learn(machines: Callable[..., Machines], tmp_path: Path) -> None:
    run = machines(epochs=2)
    run.start(0, 1)
    assert run.codes() == [0, 0], run.log(0) + run.log(1)
    one = tmp_path / "one"
    words = ["--config", str(tmp_path / "0/c.yaml"), "--data", str(tmp_path / "0/data"), "--out", str(one)]
    subprocess.run([sys.executable, "-m", "trainer", "train", "--processes", "2", *words], cwd=CHECKOUT, check=True)

    def rows(folder: Path) -> list[tuple[str, int, float, float]]:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        return [(row["kind"], row["step"], row["loss"], row["accuracy"]) for row in map(json.loads, lines)]

    assert rows(tmp_path / "0/out") == rows(one)
    assert (tmp_path / "0/out/predictions.csv").read_bytes() == (one / "predictions.csv").read_bytes()
    assert not [path for path in (tmp_path / "1/out").rglob("*") if path.is_file()]  # results are the first one's
    assert run.log(1) == ""


@pytest.mark.slow
def test_machines_with_a_network_each_meet_over_the_cable_between_them(
    networks: tuple[str, str], machines: Callable[..., Machines]
) -> None:
    """The name of this computer leads to the loopback in both, as that of a hired machine may."""
    run = machines(networks=networks, host="10.77.0.1", epochs=2)
    run.start(0, 1)
    assert run.codes() == [0, 0], run.log(0) + run.log(1)
    assert "2 processes on 2 machines" in run.log(0)
    assert "epoch 2/2:" in run.log(0)
    assert run.log(1) == ""


@pytest.mark.slow
def test_a_stop_reaches_the_other_machine_over_the_cable(
    networks: tuple[str, str], machines: Callable[..., Machines]
) -> None:
    run = machines(networks=networks, host="10.77.0.1", epochs=500)
    run.start(0, 1)
    run.wait_for(0, "epoch 1/500")
    run.launchers[1].send_signal(signal.SIGTERM)
    assert run.codes() == [75, 75], run.log(0) + run.log(1)
    run.wait_until_gone()


@linux
@pytest.mark.slow
def test_machines_may_have_different_numbers_of_gpus(machines: Callable[..., Machines]) -> None:
    run = machines(epochs=1)
    run.start(0, words=["--processes", "2"])
    run.start(1)
    assert run.codes() == [0, 0], run.log(0) + run.log(1)
    assert "3 processes on 2 machines" in run.log(0)


@linux
@pytest.mark.slow
def test_a_stop_of_one_machine_stops_both_and_the_same_commands_go_on_to_the_end(
    machines: Callable[..., Machines],
) -> None:
    run = machines(epochs=40)
    run.start(0, 1)
    run.wait_for(0, "epoch 1/40")
    run.launchers[1].send_signal(signal.SIGTERM)
    assert run.codes() == [75, 75], run.log(0) + run.log(1)
    assert checkpoint.load(run.folder / "0/out/checkpoints/last.pt")["epoch"] >= 2
    run.wait_until_gone()

    run.start(0, 1)
    assert run.codes() == [0, 0], run.log(0) + run.log(1)
    assert "resumed from" in run.log(0)
    assert "Traceback" not in run.log(0) + run.log(1)


@linux
@pytest.mark.slow
def test_a_stop_right_after_the_machines_have_met_stops_both(machines: Callable[..., Machines]) -> None:
    run = machines(epochs=500)
    run.start(0, 1)
    run.wait_for_trainers()
    run.launchers[1].send_signal(signal.SIGTERM)
    assert run.codes() == [75, 75], run.log(0) + run.log(1)
    assert "stopped by SIGTERM" in run.log(0)
    assert "Traceback" not in run.log(0) + run.log(1)
    run.wait_until_gone()


@linux
@pytest.mark.slow
def test_when_a_launcher_is_killed_all_save_and_end(machines: Callable[..., Machines]) -> None:
    run = machines(epochs=500)
    run.start(0, 1)
    run.wait_for(0, "epoch 1/500")
    run.launchers[1].kill()
    assert run.codes() == [75, -signal.SIGKILL], run.log(0)
    assert "last.pt is complete" in run.log(0)
    run.wait_until_gone()


@linux
@pytest.mark.slow
def test_a_machine_that_goes_without_a_word_ends_the_other(machines: Callable[..., Machines]) -> None:
    run = machines(epochs=500)
    run.start(0, 1)
    run.wait_for(0, "epoch 1/500")
    first = [run.launchers[0].pid, *_below(run.launchers[0].pid)]
    for pid in run.processes():
        if pid not in first:
            os.kill(pid, signal.SIGKILL)
    assert run.launchers[0].wait(60) == 1
    assert "error: another machine of this run has ended or is out of reach: " in run.log(0)
    assert "Traceback" not in run.log(0)
    run.wait_until_gone()


@linux
@pytest.mark.slow
def test_what_fails_before_all_are_together_ends_all_and_is_said_where_it_was(
    machines: Callable[..., Machines],
) -> None:
    run = machines(epochs=500)
    run.configure(1, device="cuda")
    run.start(0, 1, words=["--processes", "1"])
    assert run.codes() == [1, 1]
    assert "has ended or is out of reach: machine 1 did not come to train" in run.log(0)
    assert "error: a GPU was asked for" in run.log(1)
    run.wait_until_gone()


@linux
@pytest.mark.slow
def test_the_first_machine_can_be_stopped_while_it_waits_for_the_others(machines: Callable[..., Machines]) -> None:
    run = machines(epochs=500)
    run.start(0)
    run.wait_until_met_at()
    run.launchers[0].send_signal(signal.SIGTERM)
    assert run.launchers[0].wait(30) == 75
    assert run.log(0) == "stopped by SIGTERM before the next step\n"
    run.wait_until_gone()


@linux
@pytest.mark.slow
def test_another_machine_can_be_stopped_while_it_waits_for_the_first(machines: Callable[..., Machines]) -> None:
    run = machines(epochs=500)
    with socket.create_server(run.address) as deaf:  # what is there goes at once
        run.start(1)
        deaf.settimeout(60)
        deaf.accept()[0].close()
    run.launchers[1].send_signal(signal.SIGTERM)
    assert run.launchers[1].wait(30) == 75
    assert "Traceback" not in run.log(1)
    run.wait_until_gone()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_machine_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    monkeypatch.setattr("trainer.distributed.nodes._MEETING_S", 0.5)
    with pytest.raises(TrainerError) as caught:
        meet(Nodes(2, rank, f"127.0.0.1:{free_port()}"), processes=1)
    assert f"machine {rank} of 2 (from 0) did not meet the others at 127.0.0.1:" in caught.value.message
    assert f"machine {1 - rank} " in caught.value.message
    assert "the port of `--head` must be open" in caught.value.hint


def test_bad_usage_ends_with_2(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(TINY))
    words = ["--config", "c.yaml", "--data", ".", "--out", "out", "--nodes", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "train", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "give all of them `--head HOST:PORT`" in done.stderr


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ((2, 2, "10.0.0.1:29500"), "there is no machine 2 of 2"),
        ((2, 0, ""), "2 machines, and no `--head`"),
        ((2, 0, "10.0.0.1"), "`--head 10.0.0.1` is not HOST:PORT"),
        ((2, 0, "10.0.0.1:99999"), "`--head 10.0.0.1:99999` is not HOST:PORT"),
        ((0, 0, ""), "`--nodes 0`"),
    ],
)
def test_a_machine_without_a_place_among_the_others_is_refused(nodes: tuple[int, int, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Nodes(*nodes)
    assert said in caught.value.message


def test_machines_that_did_not_meet_say_so_with_their_address() -> None:
    err = not_met(Nodes(2, 1, "10.0.0.1:29500"), "Timed out after 600 seconds. More of it\nand more")
    assert err.message == (
        "machine 1 of 2 (from 0) did not meet the others at 10.0.0.1:29500: Timed out after 600 seconds"
    )


@linux
def test_the_way_to_another_machine_leads_by_an_interface_of_this_one() -> None:
    assert interface_to("127.0.0.1") == "lo"
    assert interface_to("no.such.host.invalid") is None


def _below(pid: int) -> list[int]:
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]
