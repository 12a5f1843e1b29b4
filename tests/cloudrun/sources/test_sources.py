"""Data that a machine gets by itself: from a web server that breaks off, lies and changes; from hostile archives."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudrun.sources import SourceProblem, parse_source
from cloudrun.sources.archive import list_zip, root_of, unpack
from cloudrun.sources.bring import bring
from cloudrun.sources.layout import layout_of
from cloudrun.sources.web import Address, download
from tests.support.archives import names_in, tar_of, zip_of
from tests.support.console import Said
from tests.support.web_server import Served, WebServer


@pytest.mark.parametrize("name", ["../a/1.jpg", "/a/1.jpg", "C:/a/1.jpg", "a\\..\\1.jpg"])
def test_a_list_shows_paths_that_lead_out(name: str) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, b"")
    with zipfile.ZipFile(packed) as archive, pytest.raises(SourceProblem, match="wants to write outside its folder"):
        list_zip(archive, "data.zip")


def test_a_list_counts_as_the_files_do() -> None:
    files = [("a/1.jpg", 1), ("b/1.jpg", 1)]
    with pytest.raises(SourceProblem, match=r"class folder data.zip/c has no images"):
        layout_of([*files, ("c/", 0)], "data.zip")
    with pytest.raises(SourceProblem, match=r"class folder data.zip/c has no images"):
        layout_of([*files, ("c/readme.txt", 1)], "data.zip")
    assert layout_of([*files, ("a\\1.jpg", 1), ("a/1.jpg", 1)], "data.zip").counts == {"train": {"a": 1, "b": 1}}
    assert layout_of([*files, ("__MACOSX/c/", 0)], "data.zip").counts == {"train": {"a": 1, "b": 1}}


def test_a_link_to_itself_ends_nothing(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        link = zipfile.ZipInfo("rust/again.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "again.jpg")
    (tmp_path / "data.zip").write_bytes(packed.getvalue())
    (tmp_path / "there").mkdir()
    assert unpack(tmp_path / "data.zip", tmp_path / "there", shown="data.zip") == 1


@pytest.mark.parametrize(
    ("name", "is_entered"), [("plants", True), ("Train", False), ("valid", False), ("@eaDir", False), (".git", False)]
)
def test_a_folder_that_says_nothing_is_entered(tmp_path: Path, name: str, is_entered: bool) -> None:
    (tmp_path / name / "rust").mkdir(parents=True)
    (tmp_path / name / "ok").mkdir()
    assert root_of(tmp_path) == (tmp_path / name if is_entered else tmp_path)


@pytest.fixture
def server() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


# --- the way here


def test_a_download_that_is_cut_goes_on_from_that_byte(server: WebServer, tmp_path: Path) -> None:
    content = os.urandom(500_000)
    server.files["/data.bin"] = Served(content, cuts=[200_000, 100_000])
    said = Said()
    download(Address(f"{server.url}/data.bin", "data.bin"), tmp_path / "data", say=said, pause_s=0)
    assert (tmp_path / "data").read_bytes() == content
    assert server.sent_ranges == [None, "bytes=200000-", "bytes=300000-"]
    assert "the connection was cut at 200.0 kB" in " ".join(said)


def test_a_server_without_ranges_is_asked_for_the_whole_again(server: WebServer, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    server.files["/data.bin"] = Served(content, gives_ranges=False, cuts=[100_000])
    download(Address(f"{server.url}/data.bin", "data.bin"), tmp_path / "data", say=Said(), pause_s=0)
    assert (tmp_path / "data").read_bytes() == content


def test_a_file_that_is_replaced_meanwhile_is_never_mixed(server: WebServer, tmp_path: Path) -> None:
    old, new = os.urandom(300_000), os.urandom(300_000)
    server.files["/data.bin"] = Served(old, cuts=[100_000])
    server.route = lambda handler: bool(handler.headers.get("Range") and server.files.update({"/data.bin": changed}))
    changed = Served(new, version='"2"')
    said = Said()
    download(Address(f"{server.url}/data.bin", "data.bin"), tmp_path / "data", say=said, pause_s=0)
    assert (tmp_path / "data").read_bytes() == new
    assert "data.bin has changed" in " ".join(said)


def test_a_busy_server_is_asked_again_and_a_refusal_is_final(server: WebServer, tmp_path: Path) -> None:
    server.files["/data.bin"] = Served(b"all of it", refusals=[503, 429])
    download(Address(f"{server.url}/data.bin", "data.bin"), tmp_path / "data", say=Said(), pause_s=0)
    assert (tmp_path / "data").read_bytes() == b"all of it"
    with pytest.raises(SourceProblem, match=r"other\.bin cannot be had: the server answers 404"):
        download(Address(f"{server.url}/other.bin", "other.bin"), tmp_path / "other", say=Said(), pause_s=0)


def test_a_server_that_claims_more_than_it_gives_is_given_up(server: WebServer, tmp_path: Path) -> None:
    server.files["/data.bin"] = Served(bytes(5000), claims_bytes=9000)
    with pytest.raises(SourceProblem, match=r"cannot be fetched: the connection was cut at 5\.0 kB"):
        download(Address(f"{server.url}/data.bin", "data.bin"), tmp_path / "data", say=Said(), pause_s=0)


def test_a_file_larger_than_the_disk_is_refused_before_it_is_written(server: WebServer, tmp_path: Path) -> None:
    server.files["/data.bin"] = Served(bytes(5000), claims_bytes=10**18)
    with pytest.raises(SourceProblem, match=r"data\.bin has 1000000000\.00 GB, and .* of the disk are free"):
        download(Address(f"{server.url}/data.bin", "data.bin"), tmp_path / "data", say=Said(), pause_s=0)


def test_a_token_is_not_passed_on_to_another_server(server: WebServer, tmp_path: Path) -> None:
    other = WebServer()
    other.files["/data.bin"] = Served(b"all of it")
    server.route = lambda handler: handler.answer(302, b"", Location=f"{other.url}/data.bin") or True
    address = Address(f"{server.url}/data.bin", "data.bin", authorization="Bearer secret")
    download(address, tmp_path / "data", say=Said(), pause_s=0)
    other.close()
    assert [one.authorization for one in server.asked] == ["Bearer secret"]
    assert [one.authorization for one in other.asked] == [None]


# --- a whole folder, or none


@pytest.mark.parametrize("pack", [lambda folder: zip_of(folder, "plants/v1/"), lambda folder: tar_of(folder, "plants")])
def test_an_archive_becomes_the_folder_that_all_of_it_lies_in(
    server: WebServer, leaves: Path, tmp_path: Path, pack: Callable[[Path], bytes]
) -> None:
    server.files["/leaves"] = Served(pack(leaves))
    said = Said()
    bring(parse_source(f"{server.url}/leaves"), tmp_path / "data", say=said)
    assert names_in(tmp_path / "data") == names_in(leaves)
    assert said[-1].startswith("6 files unpacked")
    asked = len(server.asked)
    bring(parse_source(f"{server.url}/leaves"), tmp_path / "data", say=said)  # as a run does that goes on
    assert (said[-1], len(server.asked)) == ("the data are here already", asked)


def test_the_hash_in_the_address_is_verified(server: WebServer, leaves: Path, tmp_path: Path) -> None:
    packed = zip_of(leaves)
    server.files["/leaves.zip"] = Served(packed)
    right = hashlib.sha256(packed).hexdigest()
    bring(parse_source(f"{server.url}/leaves.zip#sha256={right}"), tmp_path / "right", say=Said())
    assert names_in(tmp_path / "right") == names_in(leaves)
    with pytest.raises(SourceProblem, match=f"have the sha256 {right}, not {'0' * 64}"):
        bring(parse_source(f"{server.url}/leaves.zip#sha256={'0' * 64}"), tmp_path / "wrong", say=Said())
    assert not (tmp_path / "wrong").exists()


def test_a_folder_that_is_somebodys_is_not_touched(server: WebServer, leaves: Path) -> None:
    with pytest.raises(SourceProblem, match="is there already, and not from here"):
        bring(parse_source(f"{server.url}/leaves.zip"), leaves, say=Said())


def test_killed_outright_it_goes_on_where_it_was(server: WebServer, leaves: Path, tmp_path: Path) -> None:
    (leaves / "rust" / "noise.jpg").write_bytes(os.urandom(6_000_000))
    packed = zip_of(leaves)
    server.files["/leaves.zip"] = Served(packed, pause_s=0.01)
    words = [sys.executable, "-m", "cloudrun.sources", f"{server.url}/leaves.zip", "--out", str(tmp_path / "data")]
    killed = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    archive = tmp_path / "data.source" / "archive"
    until = time.monotonic() + 60
    while not archive.exists() or archive.stat().st_size < 1_000_000:
        assert time.monotonic() < until
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    had = archive.stat().st_size
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert server.sent_ranges == [None, f"bytes={had}-"]
    assert "are here already" in done.stdout
    assert names_in(tmp_path / "data") == names_in(leaves)
    assert not archive.exists()


# --- nothing in an archive is trusted


def a_zip(*members: tuple[str, bytes], link: str | None = None, locked: bool = False) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            if link is not None:
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
                content = link.encode()
            archive.writestr(info, content)
    content = bytearray(packed.getvalue())
    if locked:  # as a password sets it, in the list at the end
        content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def a_tar(name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, size
        archive.addfile(info, io.BytesIO(bytes(min(size, 1000))) if size <= 1000 else None)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (a_zip(("../evil.jpg", b"x")), "wants to write outside its folder: ../evil.jpg"),
        (a_zip(("a/../../evil.jpg", b"x")), "wants to write outside"),
        (a_zip(("/etc/evil.jpg", b"x")), "wants to write outside"),
        (a_zip((r"C:\evil.jpg", b"x")), "wants to write outside"),
        (a_zip((r"a\..\..\evil.jpg", b"x")), "wants to write outside"),
        (a_zip(("out", b""), link="/etc/passwd"), "has a link that leads out: out -> /etc/passwd"),
        (a_zip(("out", b""), link="../elsewhere"), "has a link that leads out"),
        (a_zip((f"{'l' * 300}.jpg", b"x")), "has a name or a link that no disk can hold"),
        (a_zip(("out", b""), link="l" * 4000), "has a name or a link that no disk can hold"),
        (a_zip(("d/" * 1500 + "a.jpg", b"x")), "has 1501 folders, one in the other"),
        (a_tar("twin", kind=tarfile.LNKTYPE, link="."), "has another name of what is no file: twin is ."),
        (a_tar("twin", kind=tarfile.LNKTYPE, link="nothing"), "has another name of what is no file"),
        (a_zip(("a.jpg", b"x"), locked=True), "is locked with a password: a.jpg"),
        (a_zip(("a", b"x"), ("a/b.jpg", b"x")), "names that exclude one another"),
        (a_zip(("a.jpg", b"x"))[:-10], "is damaged"),
        (a_zip(("a.jpg", b"weights")).replace(b"weights", b"wEights"), "is damaged: Bad CRC-32"),
        (a_tar("../evil.jpg"), "wants to write outside"),
        (a_tar("out", kind=tarfile.SYMTYPE, link="../../etc"), "has a link that leads out"),
        (a_tar("out", kind=tarfile.LNKTYPE, link="../../etc/passwd"), "wants to write outside"),
        (a_tar("pipe", kind=tarfile.FIFOTYPE), "has pipe, which is not a file"),
        (a_tar("bomb.jpg", size=10**15), "is larger than the disk: bomb.jpg has 1000000.00 GB"),
        (b"\x1f\x8b\x08\x00 no gzip at all", "is damaged"),
        (a_zip(("ü.jpg", b"x")).replace("ü".encode(), b"\xff\xff"), "is damaged: 'utf-8' codec"),
        (b"<!doctype html><title>Sign in</title>", "is neither a zip nor a tar archive"),
    ],
)
def test_a_hostile_archive_is_refused_and_writes_nothing_outside(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(content)
    (tmp_path / "inside" / "folder").mkdir(parents=True)
    with pytest.raises(SourceProblem) as caught:
        unpack(tmp_path / "archive", tmp_path / "inside" / "folder", shown="data.zip")
    assert said in caught.value.message
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "inside"}
    assert [path.name for path in (tmp_path / "inside").iterdir()] == ["folder"]
    assert [path for path in tmp_path.rglob("*") if path.is_symlink()] == []


def test_a_zip_bomb_is_refused_before_a_byte_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr("a.jpg", b"x")
        archive.infolist()[0].file_size = 10**15  # what the list at the end will say
    (tmp_path / "folder").mkdir()
    with pytest.raises(SourceProblem, match=r"larger than the disk: 1000000\.00 GB when unpacked"):
        unpack(tmp_path / "archive", tmp_path / "folder", shown="data.zip")
    assert list((tmp_path / "folder").iterdir()) == []


def test_links_that_stay_inside_are_kept(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, kind, link in (
            ("a/1.jpg", tarfile.REGTYPE, ""),
            ("b/2.jpg", tarfile.SYMTYPE, "../a/1.jpg"),
            ("a/3.jpg", tarfile.LNKTYPE, "a/1.jpg"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, 5 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"green"))
    (tmp_path / "archive").write_bytes(packed.getvalue())
    (tmp_path / "folder").mkdir()
    assert unpack(tmp_path / "archive", tmp_path / "folder", shown="data.tar.gz") == 3
    assert [(tmp_path / "folder" / name).read_bytes() for name in ("b/2.jpg", "a/3.jpg")] == [b"green", b"green"]


# --- what can be told beforehand


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://me:pw@host/data.zip", "has a password in it"),
        ("https://host/data.zip#sha256=12", "is not understood"),
        ("https:///data.zip", "names no server"),
        ("kaggle://plant-pathology", "names nothing of Kaggle's"),
        ("s3://B", "is no bucket"),
    ],
)
def test_an_address_that_says_nothing_is_refused(text: str, said: str) -> None:
    with pytest.raises(SourceProblem, match=said):
        parse_source(text)


def test_names_alone_tell_splits_classes_and_counts() -> None:
    names = ["top/train/a/1.jpg", "top/train/b/1.PNG", "top/val/a/2.jpg", "top/test/9.jpg", "top/readme.txt"]
    layout = layout_of([(name, 10) for name in [*names, "__MACOSX/top/train/c/1.jpg"]], "data.zip")
    assert layout.counts == {"train": {"a": 1, "b": 1}, "val": {"a": 1}}
    assert (layout.unlabelled_test, layout.size_bytes) == (1, 40)
    with pytest.raises(SourceProblem, match=r"has 1 class folder\(s\), and 1 image\(s\) beside them"):
        layout_of([("a/1.jpg", 1), ("2.jpg", 1)], "data.zip")
    with pytest.raises(SourceProblem, match="has the class `c`, which train does not have"):
        layout_of([("train/a/1.jpg", 1), ("train/b/1.jpg", 1), ("val/c/1.jpg", 1)], "data.zip")
