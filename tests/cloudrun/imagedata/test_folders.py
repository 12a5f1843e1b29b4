"""Folders of images: layouts, what is wrong with one, and the split that is held out."""

import random
from pathlib import Path

import pytest

from cloudrun.imagedata.folders import FolderProblem, hold_out, list_dataset


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_folder_of_class_folders_is_all_train(tmp_path: Path) -> None:
    touch(tmp_path, "b/1.jpg", "a/2.PNG", "a/deep/3.jpeg", "a/notes.txt", ".cache/x.jpg")
    dataset = list_dataset(tmp_path)
    assert dataset.classes == ("a", "b")
    assert dataset.splits == {
        "train": ((tmp_path / "a/2.PNG", 0), (tmp_path / "a/deep/3.jpeg", 0), (tmp_path / "b/1.jpg", 1))
    }


def test_a_test_folder_may_be_without_labels(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/9.jpg")
    dataset = list_dataset(tmp_path)
    assert dataset.splits["test"] == ((tmp_path / "test/9.jpg", -1),)
    assert not dataset.test_is_labelled


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "there is no image in"),
        (["a/1.jpg"], "has 1 class folder"),
        (["a/1.jpg", "b/notes.txt"], "the class folder .*b has no images"),
        (["train/a/1.jpg", "train/b/1.jpg", "val/c/1.jpg"], "class `c`, which train does not have"),
        (["train/a/1.jpg", "train/b/1.jpg", "test/x.txt"], "test has no images"),
    ],
)
def test_a_layout_that_cannot_be_trained_on_is_named(tmp_path: Path, names: list[str], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(FolderProblem, match=message) as caught:
        list_dataset(tmp_path)
    assert caught.value.hint


def test_a_tenth_of_each_class_is_held_out_whatever_the_order_or_the_place() -> None:
    files = [(Path(f"/here/{label}/{index}.jpg"), label) for label in range(3) for index in range(20 + 10 * label)]
    train, val = hold_out(files, fraction=0.1, seed=0)
    assert sorted(train + val) == list(range(len(files)))
    assert [sum(files[index][1] == label for index in val) for label in range(3)] == [2, 3, 4]

    moved = [(Path("/there") / path.parent.name / path.name, label) for path, label in files]
    random.Random(1).shuffle(moved)
    _, val_of_moved = hold_out(moved, fraction=0.1, seed=0)
    held_out = {(files[index][0].parent.name, files[index][0].name) for index in val}
    assert {(moved[index][0].parent.name, moved[index][0].name) for index in val_of_moved} == held_out
    assert hold_out(files, fraction=0.1, seed=1)[1] != val


def test_a_class_of_one_image_trains_and_nothing_validates_it() -> None:
    files = [(Path("a/1.jpg"), 0), (Path("b/1.jpg"), 1), (Path("b/2.jpg"), 1)]
    train, val = hold_out(files, fraction=0.1, seed=0)
    assert 0 in train
    assert len(val) == 1
    with pytest.raises(FolderProblem, match="each of the 2 classes has a single image"):
        hold_out(files[:2], fraction=0.1, seed=0)
