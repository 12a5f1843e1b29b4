"""A data set sent straight to a machine: every file is compared by its hash, and a cut goes on where it was."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudrun.errors import StoreError
from cloudrun.stores.download import pull
from cloudrun.stores.node import NodeStore
from tests.support.checkout import CHECKOUT
from tests.support.console import nothing
from tests.support.processes import program
from tests.support.shell import images
from tests.support.ssh_machine import MACHINE
from tests.support.tcp_proxy import TcpProxy

WATCHED = "cloudrun-watched"


@pytest.fixture
def node(ssh_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeStore:
    monkeypatch.setenv("HOME", str(ssh_home))
    return NodeStore(MACHINE, str(tmp_path / "run"))


@pytest.fixture
def proxy(ssh_home: Path) -> Iterator[TcpProxy]:
    """The same machine by another name, whose bytes are counted on their way."""
    entry = (ssh_home / ".sky" / "generated" / "ssh" / MACHINE).read_text()
    port = next(line.split()[1] for line in entry.splitlines() if "Port" in line)
    proxy = TcpProxy(int(port))
    watched = entry.replace(MACHINE, WATCHED).replace(f"Port {port}", f"Port {proxy.port}")
    (ssh_home / ".sky" / "generated" / "ssh" / WATCHED).write_text(watched)
    yield proxy
    proxy.close()


def test_a_flipped_bit_that_size_and_time_do_not_show_is_found_and_the_file_sent_again(
    node: NodeStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = images(tmp_path / "leaves")
    node.push(source, "data", nothing)
    there = tmp_path / "run" / "data" / "rust" / "1.jpg"
    before = there.stat()
    content = bytearray(there.read_bytes())
    content[10] ^= 1
    there.write_bytes(content)
    os.utime(there, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a disk does that goes bad
    node.push(source, "data", nothing)
    assert there.read_bytes() == (source / "rust" / "1.jpg").read_bytes()
    assert "rust/1.jpg: not on" in caplog.text


def test_what_is_no_longer_in_the_folder_is_not_trained_on(node: NodeStore, tmp_path: Path) -> None:
    source = images(tmp_path / "leaves")
    node.push(source, "data", nothing)
    (source / "rust" / "1.jpg").unlink()
    node.push(source, "data", nothing)
    assert not (tmp_path / "run" / "data" / "rust" / "1.jpg").exists()


def test_a_file_that_goes_on_changing_is_an_error_that_names_it(node: NodeStore, tmp_path: Path) -> None:
    source = images(tmp_path / "leaves")
    changing = source / "rust" / "1.jpg"
    over = threading.Event()

    def write_on() -> None:
        with changing.open("r+b") as file:
            while not over.is_set():
                os.pwrite(file.fileno(), os.urandom(16), 0)  # as long as before

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        with pytest.raises(StoreError, match=r"are not what was sent: rust/1\.jpg") as caught:
            node.push(source, "data", nothing)
    finally:
        over.set()
        writer.join()
    assert "did files change" in caught.value.hint


def test_links_are_followed_and_one_that_leads_nowhere_is_named(node: NodeStore, tmp_path: Path) -> None:
    source = images(tmp_path / "leaves")
    (source / "scab").symlink_to(images(tmp_path / "elsewhere") / "rust")
    node.push(source, "data", nothing)
    assert len(list((tmp_path / "run" / "data" / "scab").iterdir())) == 3
    (source / "rust" / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(StoreError, match=r"lost\.jpg is a link that leads nowhere"):
        node.push(source, "data", nothing)


def test_names_with_odd_characters_arrive(node: NodeStore, tmp_path: Path) -> None:
    source = images(tmp_path / "leaves")
    odd = ["a b.jpg", "new\nline.jpg", "back\\slash.jpg", "quo'te.jpg", "größe.jpg"]
    for name in odd:
        (source / "rust" / name).write_bytes(name.encode())
    node.push(source, "data", nothing)
    assert {path.name for path in (tmp_path / "run" / "data" / "rust").iterdir()} >= set(odd)


def test_a_push_that_is_killed_outright_goes_on_where_it_was(node: NodeStore, proxy: TcpProxy, tmp_path: Path) -> None:
    size = 60_000_000
    source = tmp_path / "large"
    source.mkdir()
    (source / "all.bin").write_bytes(os.urandom(1_000_000) * (size // 1_000_000))
    words = program("push_to_machine", WATCHED, tmp_path / "run", source)
    killed = subprocess.Popen(words, cwd=CHECKOUT)
    until = time.monotonic() + 60
    while proxy.sent < size / 2:
        assert time.monotonic() < until
        assert killed.poll() is None
    killed.kill()
    killed.wait()
    before = proxy.sent
    data = tmp_path / "run" / "data"
    while not list(data.rglob(".cloudrun-partial/all.bin")):  # the machine's rsync notices, and keeps what came
        assert time.monotonic() < until
        time.sleep(0.05)
    assert not (data / "all.bin").exists()
    subprocess.run(words, cwd=CHECKOUT, check=True)
    assert (data / "all.bin").read_bytes() == (source / "all.bin").read_bytes()
    assert proxy.sent - before < size * 0.6
    assert [path.name for path in data.iterdir()] == ["all.bin"]


ODD = [
    "größe.csv",
    "[1].csv",
    "1.csv",
    "a*.csv",
    "a?b.csv",
    "back\\slash.csv",
    "two\nlines.csv",
    "\u2028.csv",
    "sp ace '\"$x.csv",
]


def test_results_with_odd_names_and_behind_links_are_listed_and_come(node: NodeStore, tmp_path: Path) -> None:
    out = tmp_path / "run" / "out"
    (out / "loop").mkdir(parents=True)
    names = [*ODD, os.fsdecode(b"caf\xe9.csv")]
    for name in names:
        (out / name).write_text(f"this is {name!r}")
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "e1.pt").write_text("weights")
    (out / "best.pt").symlink_to(tmp_path / "scratch" / "e1.pt")
    (out / "checkpoints").symlink_to(tmp_path / "scratch")
    (out / "dangling").symlink_to("nothing")
    assert {one.key for one in node.entries("out")} == {
        f"out/{name}" for name in [*names, "best.pt", "checkpoints/e1.pt"]
    }
    home = tmp_path / "home"
    pull(node, node.entries("out"), lambda key: key.removeprefix("out/"), home, lambda _: None)
    for name in [*names, "best.pt", "checkpoints/e1.pt"]:
        assert (home / name).read_bytes() == (out / name).read_bytes()
        assert not (home / name).is_symlink()

    (out / "loop" / "again").symlink_to(out / "loop")  # cannot be followed: the files are listed as they lie
    assert f"out/{names[0]}" in {one.key for one in node.entries("out")}
