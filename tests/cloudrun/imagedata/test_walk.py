"""What lies in a folder beside images, and names that not every computer can write."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from cloudrun.imagedata.folders import list_dataset
from cloudrun.imagedata.pixels import UnreadableImage, inspect, read_image
from cloudrun.imagedata.walk import FolderProblem, walk
from cloudrun.sources import SourceProblem
from cloudrun.sources.archive import codec_of, list_zip, name_of, note_of_names, unpack
from cloudrun.text.names import name_from


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a/.ipynb_checkpoints/1-checkpoint.jpg", "in a hidden folder or a system folder"),
        ("a/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "in a hidden folder or a system folder"),
        ("#recycle/a/1.jpg", "in a hidden folder or a system folder"),
        ("a/$RECYCLE.BIN/1.jpg", "in a hidden folder or a system folder"),
        ("__MACOSX/a/._1.jpg", "in a hidden folder or a system folder"),
        (".@__thumb/1.jpg", "in a hidden folder or a system folder"),
        ("a/__pycache__/1.jpg", "in a hidden folder or a system folder"),
        ("a/._1.jpg", "hidden files and system files"),
        ("a/Thumbs.db", "hidden files and system files"),
        ("a/desktop.ini", "hidden files and system files"),
        (".DS_Store", "hidden files and system files"),
        ("a/notes.txt", "not images (.txt)"),
        ("readme", "not images (no suffix)"),
        ("a/1.mp4", "not images (.mp4)"),
        ("a/1.psd", "not images (.psd)"),
    ],
)
def test_what_is_no_image_is_counted_by_reason(tmp_path: Path, name: str, reason: str) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg", name)
    dataset = list_dataset(tmp_path)
    assert [len(files) for files in dataset.splits.values()] == [2]
    (unused,) = dataset.unused
    assert (unused.reason, unused.count, unused.examples) == (reason, 1, (name,))


@pytest.mark.parametrize("target", ["..", ".", "../..", "../b/.."])
def test_links_in_a_circle_are_not_followed(tmp_path: Path, target: str) -> None:
    touch(tmp_path, "data/a/1.jpg", "data/b/2.jpg")
    (tmp_path / "data/a/again").symlink_to(target)
    found = walk(tmp_path / "data")
    assert len(found.images) == 2
    assert [one.reason for one in found.tally.result()] == ["a link to a folder above itself"]


def test_links_to_one_another_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a/x").symlink_to("../b")
    (tmp_path / "b/y").symlink_to("../a")
    assert len(walk(tmp_path).images) <= 6


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.jpg", "data/b/2.jpg")
    (tmp_path / "data/a").symlink_to("../elsewhere")
    assert list_dataset(tmp_path / "data").classes == ("a", "b")


@pytest.mark.parametrize(
    ("name", "meant"), [(b"feuille_\xe9.jpg", "feuille_é.jpg"), ("锈病.jpg".encode("gbk"), "锈病.jpg")]
)
def test_a_name_that_is_not_utf_8_is_refused_with_what_it_may_mean(tmp_path: Path, name: bytes, meant: str) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / os.fsdecode(b"a/" + name)).touch()
    with pytest.raises(FolderProblem, match="is not UTF-8") as caught:
        list_dataset(tmp_path)
    assert caught.value.message.isprintable()
    assert meant in caught.value.message
    assert "rename it" in caught.value.hint


def test_a_name_of_255_bytes_is_read(tmp_path: Path) -> None:
    long = f"{'ж' * 125}a.jpg"
    assert len(long.encode()) == 255
    touch(tmp_path, f"a/{long}", "b/2.jpg")
    assert len(list_dataset(tmp_path).splits["train"]) == 2


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("黑星病/1.jpg".encode("gbk"), "黑星病/1.jpg"),
        ("みかん/1.jpg".encode("shift_jis"), "みかん/1.jpg"),
        ("été/1.jpg".encode(), "été/1.jpg"),
        ("été/feuille_brûlée.jpg".encode("cp850"), "été/feuille_brûlée.jpg"),
        ("größe/Äpfel.jpg".encode("cp850"), "größe/Äpfel.jpg"),
        ("健康/鏽病.jpg".encode("big5"), "健康/鏽病.jpg"),
        (b"a\\b\\1.jpg", "a/b/1.jpg"),
    ],
)
def test_names_of_a_zip_without_the_flag_for_utf_8_are_recognised(tmp_path: Path, raw: bytes, name: str) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as made:
        made.writestr(zipfile.ZipInfo("x" * len(raw)), b"1")
    content = held.getvalue().replace(b"x" * len(raw), raw)
    (tmp_path / "a.zip").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.zip") as opened:
        codec, page = codec_of(opened)
        assert [name_of(info, codec).replace("\\", "/") for info in opened.infolist()] == [name]
        said = f"1 name(s) are not marked as UTF-8, and are read as {page}: {Path(name).name}"
        assert note_of_names(opened) == (None if raw.isascii() else said)
    (tmp_path / "out").mkdir()
    unpack(tmp_path / "a.zip", tmp_path / "out", shown="a.zip")
    assert (tmp_path / "out" / name).is_file()


def test_a_name_that_no_disk_can_hold_is_refused_by_the_list_of_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr(f"a/{'é' * 128}.jpg", b"1")
    with (
        zipfile.ZipFile(tmp_path / "a.zip") as opened,
        pytest.raises(SourceProblem, match=r"a.zip has a name or a link that no disk can hold: a/é"),
    ):
        list_zip(opened, "a.zip")


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("My Plants", "my-plants"),
        ("feuilles_été", "feuilles-ete"),
        ("2021", "job"),
        ("data #2", "data-2"),
        ("Äpfel", "apfel"),
    ],
)
def test_a_job_is_called_as_its_folder(folder: str, name: str) -> None:
    assert name_from(Path(folder)) == name


def test_folders_in_another_script_have_names_that_differ() -> None:
    names = {name_from(Path(folder)) for folder in ("锈病数据", "黑星病数据", "みかん")}
    assert len(names) == 3
    assert all(name.startswith("job-") and name.isascii() for name in names)


def test_a_pipe_in_place_of_an_image_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jpg")
    assert inspect(tmp_path / "x.jpg", decode=True).problem == "it is no file, but a pipe, a device or a socket"
    with pytest.raises(UnreadableImage, match="it is no file, but a pipe"):
        read_image(tmp_path / "x.jpg")


def test_a_pipe_without_a_suffix_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    assert [(one.reason, one.examples) for one in walk(tmp_path).tally.result()] == [("not images (no suffix)", ("x",))]


def test_a_folder_that_may_not_be_read_is_refused_and_not_left_out(tmp_path: Path) -> None:
    closed = tmp_path / "b"
    closed.mkdir(mode=0)
    effective = os.geteuid()
    os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(FolderProblem, match=r"the folder .* cannot be read: Permission denied"):
            walk(tmp_path)
    finally:
        os.seteuid(effective)


@pytest.mark.parametrize("name", ["x.jpg~", "~$x.jpg", ".x.jpg"])
def test_what_a_program_keeps_beside_an_image_is_no_image(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    found = walk(tmp_path)
    assert found.images == []
    assert found.tally.result()[0].reason == "hidden files and system files"


def test_a_folder_without_an_image_says_what_is_there(tmp_path: Path) -> None:
    for name in ("a/1.dcm", "b/2.dcm", "b/3.cr2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(FolderProblem, match=r"no image in .*; not used: 2 not images \(.dcm\): a/1.dcm, b/2.dcm; 1"):
        list_dataset(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "a/1.png")
    with pytest.raises(FolderProblem, match=r"class folder .*/b has no images; not used: 2 not images \(.dcm\)"):
        list_dataset(tmp_path)
