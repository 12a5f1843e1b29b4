"""Folders of other people: which splits and classes are read, what is not used, and what is refused."""

from __future__ import annotations

import re

import pytest

from cloudrun.imagedata.layout import Layout, lay_out
from cloudrun.imagedata.unused import Tally
from cloudrun.imagedata.walk import FolderProblem
from cloudrun.sources.layout import layout_of


def images(*folders: str, each: int = 2) -> list[tuple[str, ...]]:
    return sorted(tuple(f"{folder}/{index}.jpg".lstrip("/").split("/")) for folder in folders for index in range(each))


def read(*folders: str, classes: str = "auto") -> tuple[Layout, Tally]:
    tally = Tally()
    return lay_out(images(*folders), shown="data", tally=tally, classes=classes), tally  # type: ignore[arg-type]


def sizes(layout: Layout) -> dict[str, int]:
    return {split: len(files) for split, files in layout.splits.items()}


@pytest.mark.parametrize(
    ("folders", "classes", "splits"),
    [
        pytest.param(["a", "b"], "a b", {"train": 4}, id="a folder a class"),
        pytest.param(["0", "1", "9"], "0 1 9", {"train": 6}, id="numbers are classes"),
        pytest.param(["class_1", "class_2"], "class_1 class_2", {"train": 4}, id="numbered classes are classes"),
        pytest.param(["red", "gray", "blue"], "blue gray red", {"train": 6}, id="a colour among colours is a class"),
        pytest.param(["mask", "no_mask"], "mask no_mask", {"train": 4}, id="masks that people wear"),
        pytest.param(["train/a", "train/b", "valid/a", "valid/b"], "a b", {"train": 4, "val": 4}, id="Roboflow: valid"),
        pytest.param(["train/a", "train/b", "validation/a"], "a b", {"train": 4, "val": 2}, id="validation"),
        pytest.param(["train/a", "train/b", "dev/b"], "a b", {"train": 4, "val": 2}, id="dev"),
        pytest.param(["Training/a", "Training/b", "Test/a"], "a b", {"train": 4, "test": 2}, id="fruits-360"),
        pytest.param(["TRAIN/a", "TRAIN/b", "VAL/a"], "a b", {"train": 4, "val": 2}, id="capitals"),
        pytest.param(["training/a", "training/b", "testing/b"], "a b", {"train": 4, "test": 2}, id="brain tumours"),
        pytest.param(
            ["seg_train/seg_train/a", "seg_train/seg_train/b", "seg_test/seg_test/a", "seg_pred/seg_pred"],
            "a b", {"train": 4, "test": 2}, id="Intel image classification",
        ),
        pytest.param(["train_set/a", "train_set/b", "test_set/a"], "a b", {"train": 4, "test": 2}, id="train_set"),
        pytest.param(["train/train/a", "train/train/b"], "a b", {"train": 4}, id="train/train"),
        pytest.param(["top/deeper/a", "top/deeper/b"], "a b", {"train": 4}, id="one folder holds everything"),
        pytest.param(["a/train", "a/test", "b/train", "b/test"], "a b", {"train": 4, "test": 4}, id="splits below"),
        pytest.param(["train/a", "train/b", "test"], "a b", {"train": 4, "test": 2}, id="test without classes"),
        pytest.param(["train/a", "train/b", "test/unknown"], "a b", {"train": 4, "test": 2}, id="test/unknown"),
        pytest.param(["train/a", "train/b", "test/test"], "a b", {"train": 4, "test": 2}, id="test/test"),
        pytest.param(["训练集/a", "训练集/b", "验证/a", "测试"], "a b", {"train": 4, "val": 2, "test": 2}, id="中文"),
        pytest.param(["trn/a", "trn/b", "vld/a", "tst"], "a b", {"train": 4, "val": 2, "test": 2}, id="trn, vld, tst"),
        pytest.param(["train/x/images", "train/y/images"], "x y", {"train": 4}, id="tiny-imagenet's train"),
        pytest.param(["train/Rust", "train/ok", "val/rust"], "Rust ok", {"train": 4, "val": 2}, id="another case"),
        pytest.param(
            ["train/caf\u00e9", "train/t", "val/cafe\u0301"], "caf\u00e9 t", {"train": 4, "val": 2}, id="NFC and NFD"
        ),
    ],
)  # fmt: skip
def test_layouts_are_read_as_their_makers_meant_them(folders: list[str], classes: str, splits: dict[str, int]) -> None:
    layout, _ = read(*folders)
    assert (layout.classes, sizes(layout)) == (tuple(classes.split()), splits)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        pytest.param(["train_images", "test_images"], "train_images has 0 class folder", id="Plant Pathology 2021"),
        pytest.param(["x_images_part_1", "x_images_part_2"], "named like places for images", id="HAM10000"),
        pytest.param(["images", "masks"], "named like places for images", id="images and masks"),
        pytest.param(["images_001/images", "images_002/images"], "named like places for images", id="NIH chest X-ray"),
        pytest.param(["batch_1", "batch_2"], "named like places for images", id="batches"),
        pytest.param(["color/a", "color/b", "grayscale/a", "grayscale/b"], "named like places", id="PlantVillage"),
        pytest.param(["new/a", "new/b", "old/a", "old/b"], "have the same sub-folders", id="the same classes twice"),
        pytest.param(["Plantae/a", "Plantae/b", "Fungi/c", "Fungi/d"], "hold no image but further", id="iNaturalist"),
        pytest.param(["x", "y", "Top/x", "Top/y"], "Top holds folders that also lie beside it", id="a nested copy"),
        pytest.param(["bus", "car", "train"], "`train` is a reserved name", id="a class called train"),
        pytest.param(["control", "test"], "reserved for splits", id="a class called test"),
        pytest.param(["valid/a", "valid/b", "test/a"], "and no `train` folder", id="no train"),
        pytest.param(["train/a", "train/b", "val/a", "valid/a"], "several folders for val: `val`", id="two vals"),
        pytest.param(["train/a", "train/b", "val/c"], "class `c`, which train does not have", id="another class"),
        pytest.param(["train/a", "train/b", "val/images"], "class `images`, which train does", id="tiny-imagenet"),
        pytest.param(["train/a", "train/b", "val"], "no images in class folders", id="val without classes"),
        pytest.param(["train/a"], "has 1 class folder", id="one class"),
        pytest.param([""], "has 0 class folder", id="no folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused_with_a_way_out(folders: list[str], message: str) -> None:
    with pytest.raises(FolderProblem, match=message) as caught:
        read(*folders)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("folders", "hint"),
    [
        (["1_train/a", "1_train/b", "2_val/a"], "if they are splits, call them `train`, `val` and `test`"),
        (["pets_train/a", "pets_train/b", "pets_test/a", "pets_test/b"], "if they are splits, call them"),
        (["fold_0/a", "fold_0/b", "fold_1/a", "fold_1/b"], "if they are splits, call them"),
        (["eval/a", "eval/b", "other/a", "other/b"], "if they are splits, call them"),
        (["train/a", "train/b", "val/images"], "sort its images into class folders as in data/train"),
    ],
)
def test_the_way_out_fits_what_the_folders_are(folders: list[str], hint: str) -> None:
    with pytest.raises(FolderProblem) as caught:
        read(*folders)
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", ["type 1", "stage 2", "rust_1"])
def test_a_number_alone_makes_no_copy(name: str) -> None:
    assert read(name, name.rstrip(" 012_"), "ok")[0].warnings == ()


@pytest.mark.parametrize(
    ("folders", "told", "classes"),
    [
        (["x/p1", "x/p2", "y/p3", "y/p4"], "top", "x y"),
        (["x/p1", "x/p2", "y/p3", "y/p4"], "deepest", "p1 p2 p3 p4"),
        (["color/a", "color/b", "grayscale/a", "grayscale/b"], "deepest", "a b"),
        (["images", "masks"], "top", "images masks"),
        (["bus", "car", "train"], "top", "bus car train"),
        (["train/x/p1", "train/x/p2", "train/y/p3", "val/x/p4"], "top", "x y"),
    ],
)
def test_the_job_file_may_say_which_folders_are_classes(folders: list[str], told: str, classes: str) -> None:
    layout, _ = read(*folders, classes=told)
    assert layout.classes == tuple(classes.split())


@pytest.mark.parametrize(
    ("folders", "reason", "count", "example"),
    [
        (["train/a", "train/b", "holdout", "unlabeled"], "in a folder that is no split", 4, "holdout/0.jpg"),
        (["train/a", "train/b", "validation2/a"], "in a folder that is no split", 2, "validation2/a/0.jpg"),
        (["train/a", "train/b", "train_masks/a"], "in a folder that is no split", 2, "train_masks/a/0.jpg"),
        (["a", "b", ""], "outside of the class folders", 2, "0.jpg"),
        (["train/a", "train/b", "train", "val/a", "val"], "outside of the class folders", 4, "train/0.jpg"),
    ],
)
def test_images_that_are_in_no_split_are_counted(folders: list[str], reason: str, count: int, example: str) -> None:
    (unused,) = read(*folders)[1].result()
    assert (unused.reason, unused.count) == (reason, count)
    assert example in unused.examples


@pytest.mark.parametrize(
    ("folders", "warning"),
    [
        (["Rust", "rust"], "only case, spaces or hyphens tell apart: Rust, rust"),
        (["early blight", "early_blight", "ok"], "tell apart: early blight, early_blight"),
        (["a", "a/deep", "b"], r"2 image\(s\) lie in sub-folders of class folders and count for the class: a/deep"),
        (["healthy", "rust", "images"], "named like a place for images: images"),
        (["top/a", "top/b"], "data/top: it is read as the data folder"),
        (["rust", "rust - Copy", "ok"], "named like a copy of another: `rust - Copy` of `rust`"),
        (["rust", "rust (1)", "ok"], r"`rust \(1\)` of `rust`"),
        (["rust", "rust copy 2", "Copy of ok", "ok"], "`Copy of ok` of `ok`, `rust copy 2` of `rust`"),
        (["锈病", "锈病 - 副本", "健康"], "`锈病 - 副本` of `锈病`"),
        (["rust", "ok", "New folder (2)"], r"named like a place for images: New folder \(2\)"),
        (["rust", "ok", "新建文件夹"], "named like a place for images: 新建文件夹"),
        (["rust", "ok", "output", "runs"], "named like a place for images: output, runs"),
        (["train/a", "train/b", "val/a"], r"data/val has no image of 1 class\(es\): b"),
    ],
)
def test_what_is_guessed_is_said(folders: list[str], warning: str) -> None:
    assert any(re.search(warning, one) for one in read(*folders)[0].warnings)


@pytest.mark.parametrize("name", ["train/{}/1.jpg", "data/train/{}/1.jpg", "data\\train\\{}\\1.jpg"])
def test_a_listing_from_elsewhere_is_read_the_same_way(name: str) -> None:
    valid = name.replace("train", "valid")
    files = [(one.format(label), 10) for one in (name, valid) for label in ("a", "b")]
    layout = layout_of([*files, ("data/.DS_Store", 1), ("__MACOSX/train/c/._1.jpg", 1)], "data.zip")
    assert layout.counts == {"train": {"a": 1, "b": 1}, "val": {"a": 1, "b": 1}}
    assert sum(one.count for one in layout.unused) == 2
