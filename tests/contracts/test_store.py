"""What every store does, run against each of them: a directory, and a machine reached through a real sshd."""

from __future__ import annotations

import getpass
import hashlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudrun.errors import StoreError
from cloudrun.mirror import pull
from cloudrun.stores import Entry, Store
from cloudrun.stores.directory import DirectoryStore
from cloudrun.stores.node import NodeStore
from tests.conftest import images

MACHINE = "cloudrun-store-test"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def ssh_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home folder with the host entry that SkyPilot would write, for an sshd of our own on loopback."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None or shutil.which("rsync") is None:
        pytest.skip("needs sshd and rsync (apt install openssh-server rsync)")
    home = tmp_path_factory.mktemp("ssh")
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name], check=True)
    port = free_port()
    (home / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host_key\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {home}/user_key.pub\nPasswordAuthentication no\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([sshd, "-D", "-f", home / "sshd_config", "-E", home / "sshd.log"])
    entries = home / ".sky" / "generated" / "ssh"
    entries.mkdir(parents=True)
    (entries / MACHINE).write_text(
        f"Host {MACHINE}\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n  IdentityFile ~/user_key\n"
        "  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n"
    )
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield home
    server.terminate()
    server.wait()


@pytest.fixture(params=["directory", "node"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    folder = tmp_path / "run"
    folder.mkdir()
    if request.param == "directory":
        return DirectoryStore(folder)
    monkeypatch.setenv("HOME", str(request.getfixturevalue("ssh_home")))
    return NodeStore(MACHINE, str(folder))


def nothing(*_: object) -> None:
    return None


def test_what_was_put_is_read_back(store: Store) -> None:
    store.put("stop", b"now")
    assert store.read("stop") == b"now"


def test_a_key_that_is_not_there_is_none_and_no_error(store: Store) -> None:
    assert store.read("result.json") is None


def test_reading_goes_on_from_an_offset(store: Store) -> None:
    store.put("log.txt", b"one\ntwo\n")
    assert store.read("log.txt", offset=4) == b"two\n"
    assert store.read("log.txt", offset=8) == b""


def test_entries_carry_size_and_hash_and_leave_temporary_files_out(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "run" / "out" / "checkpoints"
    out.mkdir(parents=True)
    (out / "best model.pt").write_bytes(b"weights")
    (out / "last.pt.tmp").write_bytes(b"half")
    assert store.entries("out") == [Entry("out/checkpoints/best model.pt", 7, hashlib.sha256(b"weights").hexdigest())]
    assert store.entries("nothing") == []


def test_removing_what_is_not_there_does_not_matter(store: Store) -> None:
    store.put("stop", b"")
    store.remove(["stop", "home"])
    assert store.read("stop") is None


def test_a_data_set_arrives_whole_and_is_not_sent_twice(store: Store, tmp_path: Path) -> None:
    source = images(tmp_path / "leaves", count=5)
    seen: list[tuple[int, int]] = []
    store.push(source, "data", lambda sent, total: seen.append((sent, total)))
    size = sum(path.stat().st_size for path in source.rglob("*.jpg"))
    assert seen[0] == (0, size)
    assert seen[-1] == (size, size)
    before = {path: path.stat().st_ino for path in (tmp_path / "run" / "data").rglob("*.jpg")}
    assert len(before) == 10
    store.push(source, "data", nothing)
    assert {path: path.stat().st_ino for path in (tmp_path / "run" / "data").rglob("*.jpg")} == before


def test_a_fetched_file_is_verified_and_an_equal_one_left_alone(store: Store, tmp_path: Path) -> None:
    store.push(images(tmp_path / "leaves"), "out", nothing)
    home = tmp_path / "home"
    entries = store.entries("out")
    assert pull(store, entries, lambda key: key.removeprefix("out/"), home, nothing) == 6
    assert pull(store, entries, lambda key: key.removeprefix("out/"), home, nothing) == 0
    damaged = home / "rust" / "1.jpg"
    content = bytearray(damaged.read_bytes())
    content[10] ^= 1  # one flipped bit
    damaged.write_bytes(content)
    assert pull(store, entries, lambda key: key.removeprefix("out/"), home, nothing) == 1
    assert damaged.read_bytes() == (tmp_path / "leaves" / "rust" / "1.jpg").read_bytes()


def test_bytes_that_differ_from_their_hash_never_get_the_final_name(store: Store, tmp_path: Path) -> None:
    store.put("best.pt", b"weights")
    lie = Entry("best.pt", 7, "0" * 64)

    class Lying:
        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

        def entries(self, prefix: str) -> list[Entry]:
            return [lie]

    with pytest.raises(StoreError, match=r"best.pt arrived damaged"):
        pull(Lying(), [lie], lambda key: key, tmp_path / "home", nothing)  # type: ignore[arg-type]
    assert list((tmp_path / "home").iterdir()) == []


def test_a_checkpoint_that_is_replaced_meanwhile_is_fetched_as_it_is_now(store: Store, tmp_path: Path) -> None:
    store.put("out.pt", b"epoch 1")
    old = Entry("out.pt", 7, hashlib.sha256(b"epoch 1").hexdigest())
    store.put("out.pt", b"epoch 2")
    store.put("sub", b"")

    class ListsOnlyFiles:
        def __getattr__(self, name: str) -> object:
            return getattr(store, name)

        def entries(self, prefix: str) -> list[Entry]:
            return [Entry("out.pt", 7, hashlib.sha256(b"epoch 2").hexdigest())]

    pull(ListsOnlyFiles(), [old], lambda key: key, tmp_path / "home", nothing)  # type: ignore[arg-type]
    assert (tmp_path / "home" / "out.pt").read_bytes() == b"epoch 2"


def test_a_machine_that_does_not_answer_is_an_error_with_a_hint(
    ssh_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(ssh_home))
    entry = ssh_home / ".sky" / "generated" / "ssh" / "cloudrun-gone"
    entry.write_text(f"Host cloudrun-gone\n  HostName 127.0.0.1\n  Port {free_port()}\n  IdentityFile ~/user_key\n")
    with pytest.raises(StoreError, match="does not answer over SSH") as caught:
        NodeStore("cloudrun-gone", str(tmp_path)).read("log.txt")
    assert "ps --refresh" in caught.value.hint
