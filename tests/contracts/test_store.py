"""What every store does, run against each of them: a directory, a machine behind a real sshd, a bucket of SeaweedFS."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloudrun.errors import StoreError
from cloudrun.stores import Entry, Store, s3_upload
from cloudrun.stores.directory import DirectoryStore
from cloudrun.stores.download import pull
from cloudrun.stores.node import NodeStore
from cloudrun.stores.s3 import S3Store
from cloudrun.stores.s3_upload import FileChanged
from tests.support.checkout import CHECKOUT
from tests.support.console import nothing
from tests.support.processes import program
from tests.support.seaweedfs import BUCKET, SeaweedFS, free_ports
from tests.support.shell import images
from tests.support.ssh_machine import MACHINE


@dataclass(frozen=True)
class Place:
    """A store, and what lies behind it."""

    store: Store
    write: Callable[[str, bytes], object]
    versions: Callable[[], dict[str, object]]
    """A mark of each file below `data`, which changes when the file is sent again."""


@pytest.fixture(params=["directory", "node", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param == "s3":
        server: SeaweedFS = request.getfixturevalue("seaweedfs")
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        bucket = S3Store(f"s3://{BUCKET}/{tmp_path.name}", server.endpoint)
        return Place(bucket, bucket.put, lambda: server.chunks(f"{tmp_path.name}/data"))
    folder = tmp_path / "run"
    folder.mkdir()

    def write(key: str, content: bytes) -> None:
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(content)

    def versions() -> dict[str, object]:
        return {str(path): path.stat().st_ino for path in (folder / "data").rglob("*.jpg")}

    if request.param == "directory":
        return Place(DirectoryStore(folder), write, versions)
    monkeypatch.setenv("HOME", str(request.getfixturevalue("ssh_home")))
    return Place(NodeStore(MACHINE, str(folder)), write, versions)


@pytest.fixture
def store(place: Place) -> Store:
    return place.store


@pytest.fixture
def bucket(seaweedfs: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    for name, value in seaweedfs.env.items():
        monkeypatch.setenv(name, value)
    return S3Store(f"s3://{BUCKET}/{tmp_path.name}", seaweedfs.endpoint)


def test_what_was_put_is_read_back(store: Store) -> None:
    store.put("stop", b"now")
    assert store.read("stop") == b"now"


def test_a_key_that_is_not_there_is_none_and_no_error(store: Store) -> None:
    assert store.read("result.json") is None


def test_reading_goes_on_from_an_offset(store: Store) -> None:
    store.put("log.txt", b"one\ntwo\n")
    assert store.read("log.txt", offset=4) == b"two\n"
    assert store.read("log.txt", offset=8) == b""


def test_reading_stops_at_a_limit(store: Store) -> None:
    store.put("log.txt", b"0123456789")
    assert store.read("log.txt", limit=4) == b"0123"
    assert store.read("log.txt", offset=8, limit=4) == b"89"
    assert store.read("log.txt", offset=10, limit=4) == b""
    assert store.read("log.txt", limit=20) == b"0123456789"
    assert store.read("nothing", limit=4) is None


def test_the_size_of_a_file_is_told_without_reading_it(place: Place, tmp_path: Path) -> None:
    place.write("log.txt", b"0123456789")
    assert place.store.size("log.txt") == 10
    assert place.store.size("nothing") is None
    if (tmp_path / "run").is_dir():
        os.mkfifo(tmp_path / "run" / "pipe")
        (tmp_path / "run" / "folder").mkdir()
        assert place.store.size("pipe") is place.store.size("folder") is None


def test_whether_the_runs_folder_is_there_is_told(place: Place, tmp_path: Path) -> None:
    assert place.store.is_there()
    if (tmp_path / "run").is_dir():
        shutil.rmtree(tmp_path / "run")
        assert not place.store.is_there()


def test_what_is_no_file_is_not_waited_for_and_is_named(place: Place, tmp_path: Path) -> None:
    place.write("out/best.pt", b"weights")
    if not (tmp_path / "run").is_dir():
        assert place.store.left_out("out") == []  # a bucket has files alone
        return
    out = tmp_path / "run" / "out"
    for name in ("pipe", "sp ace\npipe"):
        os.mkfifo(out / name)
    (out / "lost").symlink_to("nowhere")
    (out / "self").symlink_to(".")
    (out / "folder").mkdir()
    for name in ("pipe", "folder", "lost", "best.pt/below"):
        assert place.store.read(f"out/{name}", limit=10) is None
    assert [entry.key for entry in place.store.entries("out")] == ["out/best.pt"]
    assert place.store.left_out("out") == [
        "out/lost (a link that leads nowhere)",
        "out/pipe (neither a file nor a folder)",
        "out/sp ace\npipe (neither a file nor a folder)",
    ]
    assert place.store.left_out("nothing") == []


def test_the_longest_name_comes_home(place: Place, tmp_path: Path) -> None:
    name = "l" * 250 + ".txt"
    place.write(f"out/{name}", b"long")
    pull(place.store, place.store.entries("out"), lambda key: key, tmp_path / "home", nothing)
    assert [path.name for path in (tmp_path / "home" / "out").iterdir()] == [name]


def test_a_file_that_does_not_come_keeps_no_other(place: Place, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        place.write(f"out/{name}", name.encode())
    a, b, c = place.store.entries("out")
    lie = Entry(b.key, b.size_bytes, "0" * 64)

    class Lying:
        def __getattr__(self, name: str) -> object:
            return getattr(place.store, name)

        def entries(self, prefix: str) -> list[Entry]:
            return [a, lie, c]

    with pytest.raises(StoreError, match="out/b arrived damaged"):
        pull(Lying(), [a, lie, c], lambda key: key, tmp_path / "home", nothing)  # type: ignore[arg-type]
    assert [path.name for path in sorted((tmp_path / "home" / "out").iterdir())] == ["a", "c"]


def test_entries_carry_size_and_hash_and_leave_temporary_files_out(place: Place) -> None:
    place.write("out/checkpoints/best model.pt", b"weights")
    place.write("out/checkpoints/last.pt.tmp", b"half")
    place.write("output.txt", b"beside it")
    expected = [Entry("out/checkpoints/best model.pt", 7, hashlib.sha256(b"weights").hexdigest())]
    assert place.store.entries("out") == expected
    assert place.store.entries("nothing") == []


def test_removing_what_is_not_there_does_not_matter(store: Store) -> None:
    store.put("stop", b"")
    store.remove(["stop", "home"])
    assert store.read("stop") is None


def test_a_data_set_arrives_whole_and_is_not_sent_twice(place: Place, tmp_path: Path) -> None:
    source = images(tmp_path / "leaves", count=5)
    seen: list[tuple[int, int]] = []
    place.store.push(source, "data", lambda sent, total: seen.append((sent, total)))
    size = sum(path.stat().st_size for path in source.rglob("*.jpg"))
    assert seen[0] == (0, size)
    assert seen[-1] == (size, size)
    before = place.versions()
    assert len(before) == 10
    place.store.push(source, "data", nothing)
    assert place.versions() == before


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
    entry.write_text(
        f"Host cloudrun-gone\n  HostName 127.0.0.1\n  Port {free_ports(1)[0]}\n  IdentityFile ~/user_key\n"
    )
    with pytest.raises(StoreError, match="does not answer over SSH") as caught:
        NodeStore("cloudrun-gone", str(tmp_path)).read("log.txt")
    assert "ps --refresh" in caught.value.hint


def test_a_file_in_parts_arrives_whole(bucket: S3Store, tmp_path: Path) -> None:
    checkpoint = tmp_path / "last.pt"
    checkpoint.write_bytes(os.urandom(20_000_000))  # three parts
    entry = bucket.upload(checkpoint, "out/last.pt")
    assert bucket.entries("out") == [entry]
    assert pull(bucket, [entry], lambda key: key, tmp_path / "home", nothing) == 1
    assert (tmp_path / "home" / "out" / "last.pt").read_bytes() == checkpoint.read_bytes()


def test_a_file_that_is_written_to_while_it_is_sent_leaves_the_old_one_in_place(
    bucket: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "last.pt"
    checkpoint.write_bytes(b"1" * 20_000_000)
    old = bucket.upload(checkpoint, "out/last.pt")
    checkpoint.write_bytes(b"2" * 20_000_000)
    hashed = s3_upload._look_at

    def written_to_after_it_was_hashed(*args: Any) -> Any:
        content = hashed(*args)
        with checkpoint.open("r+b") as file:
            file.seek(10_000_000)
            file.write(b"3")
        os.utime(checkpoint, ns=(args[1].st_atime_ns, args[1].st_mtime_ns))  # within one tick of its date
        return content

    monkeypatch.setattr(s3_upload, "_look_at", written_to_after_it_was_hashed)
    with pytest.raises(FileChanged):
        bucket.upload(checkpoint, "out/last.pt")
    assert bucket.entries("out") == [old]


def test_a_flipped_byte_in_the_bucket_is_noticed(bucket: S3Store, seaweedfs: SeaweedFS, tmp_path: Path) -> None:
    bucket.put("out/best.pt", b"weights")
    entries = bucket.entries("out")
    seaweedfs.client().put_object(
        Bucket=BUCKET, Key=f"{tmp_path.name}/out/best.pt", Body=b"wEights", Metadata={"sha256": entries[0].sha256}
    )
    with pytest.raises(StoreError, match="damaged"):
        bucket.read("out/best.pt")
    with pytest.raises(StoreError, match=r"best.pt arrived damaged"):
        pull(bucket, entries, lambda key: key, tmp_path / "home", nothing)


def test_a_body_that_was_damaged_on_its_way_is_refused_by_the_server(seaweedfs: SeaweedFS, tmp_path: Path) -> None:
    from botocore.exceptions import ClientError

    checksum = base64.b64encode(hashlib.sha256(b"weights").digest()).decode()
    with pytest.raises(ClientError, match="BadDigest"):
        seaweedfs.client().put_object(Bucket=BUCKET, Key=tmp_path.name, Body=b"wEights", ChecksumSHA256=checksum)


@pytest.mark.parametrize(
    ("change", "bucket_name", "said"),
    [
        ({"AWS_ACCESS_KEY_ID": "nobody"}, BUCKET, "does not accept these credentials"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, BUCKET, "does not accept these credentials"),
        ({"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "reader-secret"}, BUCKET, "does not allow"),
        ({}, "no-such-bucket", "there is no bucket `no-such-bucket`"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_named_with_the_reason(
    seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], bucket_name: str, said: str
) -> None:
    for name, value in {**seaweedfs.env, **change}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=said) as caught:
        S3Store(f"s3://{bucket_name}/x", seaweedfs.endpoint).put("log.txt", b"one\n")
    assert caught.value.hint


def test_a_shell_without_credentials_is_told_which(
    seaweedfs: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError, match="no credentials for bucket") as caught:
        S3Store(f"s3://{BUCKET}/x", seaweedfs.endpoint).read("log.txt")
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


@pytest.mark.parametrize("listens", [False, True])
def test_an_endpoint_that_does_not_answer_is_an_error_within_seconds(
    seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch, listens: bool
) -> None:
    for name, value in seaweedfs.env.items():
        monkeypatch.setenv(name, value)
    began = time.monotonic()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()  # takes the connection and never says a word
        store = S3Store(f"s3://{BUCKET}/x", f"http://127.0.0.1:{silent.getsockname()[1]}", read_timeout_s=0.5)
        with pytest.raises(StoreError, match="does not answer"):
            store.read("log.txt")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("place", ["directory", "node"], indirect=True)
def test_a_half_fetched_file_goes_on_where_it_was(place: Place, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    place.write("out/best.pt", content)
    (entry,) = place.store.entries("out")
    partial = tmp_path / "home" / f"best.pt.{entry.sha256[:16]}.partial"
    partial.parent.mkdir()
    partial.write_bytes(content[:100_000])
    begun = partial.stat().st_ino
    pull(place.store, [entry], lambda _: "best.pt", tmp_path / "home", nothing)
    assert (tmp_path / "home" / "best.pt").read_bytes() == content
    assert (tmp_path / "home" / "best.pt").stat().st_ino == begun  # the same file, which only grew


def test_the_start_of_another_version_is_not_mixed_in(place: Place, tmp_path: Path) -> None:
    place.write("out/best.pt", b"epoch 2, and better")
    (entry,) = place.store.entries("out")
    home = tmp_path / "home"
    home.mkdir()
    start = home / f"best.pt.{hashlib.sha256(b'epoch 1').hexdigest()[:16]}.partial"
    start.write_bytes(b"epoch 1")
    start.with_name(f"{start.name}.ranges").write_text("what a bucket's store knows of it")
    damaged: list[Entry] = []
    pull(place.store, [entry], lambda _: "best.pt", home, nothing, on_damage=damaged.append)
    assert {path.name: path.read_bytes() for path in home.iterdir()} == {"best.pt": b"epoch 2, and better"}
    assert damaged == []


def test_a_byte_that_flips_on_the_way_is_found_and_the_file_named_and_fetched_again(
    place: Place, tmp_path: Path
) -> None:
    place.write("out/best.pt", b"weights")
    (entry,) = place.store.entries("out")
    flips = iter([True, False])

    class FlipsOnce:
        def __getattr__(self, name: str) -> object:
            return getattr(place.store, name)

        def get(self, key: str, target: Path) -> None:
            place.store.get(key, target)
            if next(flips):
                target.write_bytes(b"wEights")

    damaged: list[Entry] = []
    pull(FlipsOnce(), [entry], lambda _: "best.pt", tmp_path / "home", nothing, on_damage=damaged.append)  # type: ignore[arg-type]
    assert damaged == [entry]
    assert [path.read_bytes() for path in (tmp_path / "home").iterdir()] == [b"weights"]


def test_a_fetch_that_is_killed_outright_goes_on_where_it_was(
    ssh_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(ssh_home))
    folder, home = tmp_path / "run", tmp_path / "home"
    (folder / "out").mkdir(parents=True)
    (folder / "out" / "last.pt").write_bytes(os.urandom(1_000_000) * 150)
    words = program("fetch_from_machine", MACHINE, folder, home)
    killed = subprocess.Popen(words, cwd=CHECKOUT)
    until = time.monotonic() + 60
    while not any(path.stat().st_size > 1_000_000 for path in home.glob("*.partial")):
        assert time.monotonic() < until
        assert killed.poll() is None
    killed.kill()
    killed.wait()
    (partial,) = home.iterdir()
    begun = partial.stat().st_ino
    subprocess.run(words, cwd=CHECKOUT, check=True)
    (last,) = home.iterdir()
    assert (last.name, last.stat().st_ino) == ("last.pt", begun)
    assert last.read_bytes() == (folder / "out" / "last.pt").read_bytes()
