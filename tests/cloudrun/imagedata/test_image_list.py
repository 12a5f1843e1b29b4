"""The images that a person names for prediction: a folder, an image, a list of paths, a table of ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudrun.imagedata.folders import FolderProblem
from cloudrun.imagedata.image_list import images_at


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder `images` with a.jpg, b.jpg and rust/c.jpg; nobody looks into them."""
    folder = tmp_path / "images"
    (folder / "rust").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "rust/c.jpg"):
        (folder / name).write_bytes(b"\xff\xd8\xff")
    return folder


def test_a_folder_has_its_images_by_their_paths_in_it(images: Path) -> None:
    assert images_at(images).names == ("a.jpg", "b.jpg", "rust/c.jpg")


def test_of_a_data_set_the_folder_test_is_meant(images: Path) -> None:
    images.rename(images.parent / "test")
    found = images_at(images.parent)
    assert found.names == ("test/a.jpg", "test/b.jpg", "test/rust/c.jpg")
    assert found.files[0] == images.parent / "test" / "a.jpg"


def test_an_image_is_named_by_its_file_name(images: Path) -> None:
    assert images_at(images / "b.jpg").names == ("b.jpg",)


def test_a_list_has_a_path_on_each_line_beside_it(images: Path) -> None:
    (images / "some.txt").write_text("rust/c.jpg\n\na.jpg\n")
    found = images_at(images / "some.txt")
    assert found.names == ("rust/c.jpg", "a.jpg")
    assert found.files == (images / "rust" / "c.jpg", images / "a.jpg")


def test_a_table_names_images_in_its_order_with_or_without_suffix(images: Path) -> None:
    (images.parent / "sample.csv").write_text("label,image_id\nrust,b\nrust,c\nrust,a.jpg\nrust,b\n")
    assert images_at(images.parent / "sample.csv", folder=images).names == ("b.jpg", "rust/c.jpg", "a.jpg")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("some.txt", "a.jpg\nz.jpg\ny.jpg\n", r"some\.txt:2: there is no file .*z\.jpg \(and 1 more\)"),
        ("some.csv", "id,x\na,1\nzz,2\n", r"some\.csv:3: there is no image `zz`"),
        ("some.csv", "id,x\nq,1\nr,2\n", r"no column of .*some\.csv names images"),
        ("some.csv", "id,x\n", r"some\.csv has no rows"),
        ("some.txt", "\n", r"some\.txt names no image"),
    ],
)
def test_a_name_without_an_image_is_an_error(images: Path, name: str, content: str, message: str) -> None:
    (images / name).write_text(content)
    with pytest.raises(FolderProblem, match=message):
        images_at(images / name)


def test_a_name_of_two_images_is_an_error(images: Path) -> None:
    (images / "rust" / "a.png").write_bytes(b"\x89PNG")
    (images.parent / "ids.csv").write_text("id\nb\na\n")
    with pytest.raises(FolderProblem, match=r"ids\.csv:3: `a` may be any of 2 images: a\.jpg, rust/a\.png"):
        images_at(images.parent / "ids.csv", folder=images)


def test_nothing_to_predict_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderProblem, match="no images in"):
        images_at(tmp_path / "empty")
    with pytest.raises(FolderProblem, match="no folder or file"):
        images_at(tmp_path / "absent")


def test_a_table_of_ids_means_the_images_of_the_folder_test(images: Path) -> None:
    data = images.parent / "data"
    (data / "test").mkdir(parents=True)
    images.rename(data / "train")
    (data / "test" / "a.jpg").write_bytes(b"\xff\xd8\xff")
    (data / "ids.csv").write_text("id\na\n")
    assert images_at(data / "ids.csv").names == ("test/a.jpg",)
