"""A CSV file of labels: the shapes that competitions have, and what is wrong with a row, with its line."""

from pathlib import Path

import pytest

from cloudrun.imagedata.folders import UNLABELLED, Dataset, FolderProblem
from cloudrun.imagedata.labels import LabelProblems, find_labels, list_labelled


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write(folder: Path, *lines: str, name: str = "train.csv") -> Path:
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def labels_by_image(dataset: Dataset, split: str) -> dict[str, list[str]]:
    """Image -> its classes, for one split."""
    return {
        path.relative_to(dataset.folder).as_posix(): [dataset.classes[index] for index in dataset.classes_of(label)]
        for path, label in dataset.splits.get(split, ())
    }


def test_an_image_a_row_with_its_label(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    labels = write(tmp_path, "image,label", "1.jpg,rust", "2.jpg,early blight", "3.jpg,rust", "4.jpg,early blight")
    dataset = list_labelled(tmp_path, labels)
    assert dataset.classes == ("early blight", "rust")
    assert dataset.label_sets is None
    assert labels_by_image(dataset, "train") == {
        "1.jpg": ["rust"], "2.jpg": ["early blight"], "3.jpg": ["rust"], "4.jpg": ["early blight"],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["images/a.jpg", "a.jpg", "a", "images/a", "plants/images/a.jpg", "images\\a.jpg"])
def test_a_row_may_name_its_image_without_folder_or_suffix(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "images/a.jpg", "images/b.jpg", "images/c.jpg", "images/d.jpg")
    labels = write(tmp_path, "image,label", f"{name},x", "b,x", "c,y", "d,y")
    assert labels_by_image(list_labelled(tmp_path, labels), "train")["images/a.jpg"] == ["x"]


@pytest.mark.parametrize("header", ["image_id,labels", "Filename,Class", "id,species", "labels,image", "file;target"])
def test_columns_are_known_by_the_names_that_are_usual(tmp_path: Path, header: str) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    rows = [("1", "x"), ("2", "y"), ("3", "x"), ("4", "y")]
    mark = ";" if ";" in header else ","
    is_label_first = header.startswith("labels")
    lines = [mark.join(reversed(row) if is_label_first else row) for row in rows]
    dataset = list_labelled(tmp_path, write(tmp_path, header, *lines))
    assert labels_by_image(dataset, "train")["2.jpg"] == ["y"]


@pytest.mark.parametrize("mark", ["|", " | ", ";", " "])
def test_a_cell_may_hold_several_labels(tmp_path: Path, mark: str) -> None:
    """Plant Pathology 2021 has spaces between them."""
    touch(tmp_path, *(f"{index}.jpg" for index in range(6)))
    cells = ["scab", f"scab{mark}rust", "healthy", "rust", f"rust{mark}scab", "healthy"]
    labels = write(tmp_path, "image,labels", *(f"{index},{cell}" for index, cell in enumerate(cells)))
    dataset = list_labelled(tmp_path, labels)
    assert dataset.classes == ("healthy", "rust", "scab")
    assert dataset.label_sets == ((0,), (1,), (1, 2), (2,))
    assert labels_by_image(dataset, "train")["1.jpg"] == labels_by_image(dataset, "train")["4.jpg"] == ["rust", "scab"]
    assert dataset.count_classes(dataset.splits["train"]) == [2, 3, 3]


def test_a_column_a_class_with_one_1_a_row_is_one_label_an_image(tmp_path: Path) -> None:
    """Plant Pathology 2020; its test images lie in the same folder, and have no row."""
    touch(tmp_path, *(f"images/Train_{index}.jpg" for index in range(4)), "images/Test_0.jpg")
    labels = write(tmp_path, "image_id,healthy,rust", "Train_0,1,0", "Train_1,0,1", "Train_2,1,0", "Train_3,0,1")
    dataset = list_labelled(tmp_path, labels)
    assert (dataset.classes, dataset.label_sets) == (("healthy", "rust"), None)
    assert dataset.splits["test"] == ((tmp_path / "images/Test_0.jpg", UNLABELLED),)


def test_a_column_a_class_with_any_number_of_1_is_several_labels_an_image(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{index}.jpg" for index in range(4)))
    labels = write(tmp_path, "image,rust,scab", "0,1,1", "1,0,0", "2,1,0", "3,0,1")
    dataset = list_labelled(tmp_path, labels)
    assert labels_by_image(dataset, "train") == {
        "0.jpg": ["rust", "scab"],
        "1.jpg": [],
        "2.jpg": ["rust"],
        "3.jpg": ["scab"],
    }


def test_folders_or_a_column_say_the_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.jpg", "train/2.jpg", "val/3.jpg", "test/4.jpg", "test/5.jpg")
    by_folder = list_labelled(tmp_path, write(tmp_path, "image,label", "1,x", "2,y", "3,x"))
    assert {split: list(labels_by_image(by_folder, split)) for split in by_folder.splits} == {
        "train": ["train/1.jpg", "train/2.jpg"], "val": ["val/3.jpg"], "test": ["test/4.jpg", "test/5.jpg"],
    }  # fmt: skip
    by_column = list_labelled(
        tmp_path, write(tmp_path, "image,label,split", "1,x,val", "2,y,train", "3,x,train", "4,y,test", "5,x,test")
    )
    assert list(labels_by_image(by_column, "val")) == ["train/1.jpg"]
    assert by_column.test_is_labelled


def test_images_without_a_row_beside_a_test_folder_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "train_images/1.jpg", "train_images/2.jpg", "train_images/3.jpg", "test_images/9.jpg")
    dataset = list_labelled(tmp_path, write(tmp_path, "image,label,split", "1,x,train", "2,y,val"))
    assert dataset.left_out == (tmp_path / "train_images/3.jpg",)
    assert list(labels_by_image(dataset, "test")) == ["test_images/9.jpg"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["image,label", "1,x", "9,y"], "train.csv:3: there is no image `9` in "),
        (["image,label", "1,x", "2,y", "1.jpg,y"], "train.csv:4: `1.jpg` is `y` here and `x` in line 2"),
        (["image,label", "1,x", "2,"], "train.csv:3: the row has no label"),
        (["image,label", "1,x", "2,y,z"], "train.csv:3: 3 cells, and the header has 2"),
        (["image,label", "1,x", "2,x"], r"has 1 class\(es\): x"),
        (["image,label"], "has no rows"),
        (["image,label", "1,x", '2,"y' + "z" * 140_000], "train.csv:3: not a valid CSV file: field larger than"),
        (["taken_in,label", "May,x"], "train.csv:1: no column names the image; the columns are taken_in, label"),
        (["image,colour,weight", "1,red,3"], "train.csv:1: no column names the label"),
        (["image,rust,scab", "1,0,1", "2,0,0.5"], "train.csv:3: `scab` is `0.5`, not 0 or 1"),
        (["image,label,split", "1,x,train", "2,y,holdout"], "train.csv:3: `holdout` is not a split"),
        (
            ["image,label", "double,x", "2,y"],
            "train.csv:2: `double` may be any of 2 images: a/double.jpg, b/double.jpg",
        ),
        (["image,label", "a/1.jpg,x", "2,y"], "train.csv:2: there is no image `a/1.jpg`"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(tmp_path: Path, lines: list[str], message: str) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "3.jpg", "a/double.jpg", "b/double.jpg")
    with pytest.raises(FolderProblem, match=message) as caught:
        list_labelled(tmp_path, write(tmp_path, *lines))
    assert caught.value.hint


def test_every_row_that_is_wrong_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "leaf_1.jpg")
    labels = write(tmp_path, "image,label", "leaf_1,x", "leaf_l.jpg,y", "tree,y")
    with pytest.raises(LabelProblems, match=r"\(and 1 more\)") as caught:
        list_labelled(tmp_path, labels)
    assert [place for place, _, _ in caught.value.problems] == [f"{labels}:3", f"{labels}:4"]
    assert caught.value.problems[0][2] == "did you mean `leaf_1.jpg`?"


def test_a_labels_file_is_looked_for_in_the_data_folder_first(tmp_path: Path) -> None:
    data, beside = tmp_path / "data", tmp_path / "jobs"
    touch(beside, "train.csv")
    touch(data, "other.csv")
    assert find_labels("train.csv", data, beside=beside) == beside / "train.csv"
    touch(data, "train.csv")
    assert find_labels("train.csv", data, beside=beside) == data / "train.csv"
    with pytest.raises(FolderProblem, match="no labels file") as caught:
        find_labels("labels.csv", data, beside=beside)
    assert "other.csv, train.csv" in caught.value.hint
