"""Files of probabilities: which images they are for, and how each mistake in them is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudrun.imagedata.dataset import read_dataset
from cloudrun.imagedata.folders import FolderProblem
from cloudrun.imagedata.labels import LabelProblems
from cloudrun.imagedata.soft_labels import SoftLabels, read_soft_labels


@pytest.fixture
def plants(tmp_path: Path) -> Path:
    """Two classes of three images that train and one that validates, and two test images without a label."""
    for name in ("rust", "scab"):
        for split, places in (("train", (1, 2, 3)), ("val", (4,))):
            (tmp_path / split / name).mkdir(parents=True)
            for place in places:
                (tmp_path / split / name / f"{name}{place}.jpg").touch()
    (tmp_path / "test").mkdir()
    for place in (1, 2):
        (tmp_path / "test" / f"t{place}.jpg").touch()
    return tmp_path


def read(folder: Path, *texts: str, folds: int = 0) -> SoftLabels:
    names = []
    for place, text in enumerate(texts):
        names.append(f"soft{place}.csv")
        (folder / names[-1]).write_text(text)
    return read_soft_labels(names, read_dataset(folder), beside=None, folds=folds)


def test_out_of_fold_predictions_are_for_labelled_images_and_others_are_added(plants: Path) -> None:
    soft = read(
        plants,
        "image,label,truth,rust,scab\ntrain/rust/rust1.jpg,rust,rust,0.75,0.25\n",
        "image,label,confidence,rust,scab\ntest/t2.jpg,scab,0.900000,0.1,0.900000\n",
    )
    assert soft.of_labelled == {plants / "train/rust/rust1.jpg": (0.75, 0.25)}
    assert soft.extra == {plants / "test/t2.jpg": (0.1, 0.9)}
    assert soft.warnings == ()


def test_columns_may_stand_in_any_order_and_names_without_their_folder(plants: Path) -> None:
    soft = read(plants, "image,scab,rust\nt1,0.25,0.75\n")
    assert soft.extra == {plants / "test/t1.jpg": (0.75, 0.25)}


def test_validation_images_never_train_unless_in_other_folds(plants: Path) -> None:
    text = "image,label,truth,rust,scab\nval/rust/rust4.jpg,rust,rust,0.75,0.25\ntrain/rust/rust1.jpg,rust,rust,1,0\n"
    soft = read(plants, text)
    assert set(soft.of_labelled) == {plants / "train/rust/rust1.jpg"}
    assert soft.extra == {}
    assert soft.warnings == ("soft labels of 1 validation image(s) are not used: these do not train",)
    soft = read(plants, text, folds=2)
    assert len(soft.of_labelled) == 2
    assert "other folds" in soft.warnings[0]


def test_predictions_of_a_model_that_may_have_trained_on_an_image_are_refused(plants: Path) -> None:
    with pytest.raises(
        FolderProblem, match=r"predictions of 1 labelled image\(s\), as `train/rust/rust1.jpg`"
    ) as caught:
        read(plants, "image,label,confidence,rust,scab\ntrain/rust/rust1.jpg,rust,0.9,0.9,0.1\n")
    assert "oof.csv" in (caught.value.hint or "")


def test_a_file_that_does_not_say_where_it_is_from_is_told(plants: Path) -> None:
    soft = read(plants, "image,rust,scab\ntrain/rust/rust1.jpg,0.9,0.1\n")
    assert soft.warnings == ("soft0.csv does not say whether its 1 labelled image(s) were predicted out of fold",)


def test_labelled_test_images_with_pseudo_labels_are_told(plants: Path) -> None:
    for name in ("rust", "scab"):
        (plants / "test" / name).mkdir()
        (plants / "test" / f"t{1 if name == 'rust' else 2}.jpg").rename(plants / "test" / name / f"{name}9.jpg")
    soft = read(plants, "image,label,confidence,rust,scab\ntest/rust/rust9.jpg,rust,0.9,0.9,0.1\n")
    assert soft.warnings == ("1 labelled test image(s) train with pseudo-labels, not with their labels",)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("image,rust,scap\nt1,1,0\n", "`scap` is not a class of the data set", "did you mean `scab`?"),
        ("image,rust\nt1,1\n", "there is no column for 1 class(es): scab", "add a column"),
        ("image,rust,scab,scab\nt1,1,0,0\n", "duplicate column `scab`", "remove or rename"),
        ("name,rust,scab\nt1,1,0\n", "the first column is `name`, not `image`", "the header is image"),
        ("image,rust,scab\n", "has no rows under its header", "a row an image"),
    ],
)
def test_columns_that_are_not_the_classes_are_named(plants: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(FolderProblem) as caught:
        read(plants, text)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_every_wrong_row_is_named_with_its_line(plants: Path) -> None:
    rows = ["t1,0.5,0.4", "t9,1,0", "t2,1.5,-0.5", "t2,nan,0", "t2,1", "t2,1,0", "test/t2.jpg,0,1"]
    with pytest.raises(LabelProblems) as caught:
        read(plants, "\n".join(["image,rust,scab", *rows]) + "\n")
    found = [(place.rpartition(":")[2], message) for place, message, _ in caught.value.problems]
    assert found == [
        ("2", "the probabilities sum to 0.9, not to 1"),
        ("3", f"there is no image `t9` in {plants}"),
        ("4", "`1.5` is not a probability from 0 to 1, of `rust`"),
        ("5", "`nan` is not a probability from 0 to 1, of `rust`"),
        ("6", "2 cells, and the header has 3"),
        ("8", "`test/t2.jpg` has two rows"),
    ]


def test_an_image_in_two_files_is_named(plants: Path) -> None:
    with pytest.raises(LabelProblems, match="`t1` has two rows"):
        read(plants, "image,rust,scab\nt1,1,0\n", "image,rust,scab\nt1,1,0\n")


def test_six_digits_that_do_not_quite_sum_to_one_are_made_to(plants: Path) -> None:
    soft = read(plants, "image,rust,scab\nt1,0.333333,0.666666\n")
    assert sum(soft.extra[plants / "test/t1.jpg"]) == pytest.approx(1, abs=1e-12)


def test_probabilities_of_several_classes_need_not_sum_to_one(plants: Path) -> None:
    (plants / "labels.csv").write_text("image,labels\nrust1,rust|scab\nscab1,scab\nrust2,rust\n")
    (plants / "soft.csv").write_text("image,rust,scab\nt1,0.9,0.8\n")
    dataset = read_dataset(plants, plants / "labels.csv")
    soft = read_soft_labels(["soft.csv"], dataset, beside=None, folds=0)
    assert soft.extra == {plants / "test/t1.jpg": (0.9, 0.8)}


def test_a_file_is_looked_for_in_the_data_folder_then_beside(
    plants: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    beside = tmp_path_factory.mktemp("beside")
    (beside / "soft.csv").write_text("image,rust,scab\nt1,1,0\n")
    dataset = read_dataset(plants)
    assert len(read_soft_labels(["soft.csv"], dataset, beside=beside, folds=0).extra) == 1
    with pytest.raises(FolderProblem, match="there is no file of soft labels"):
        read_soft_labels(["soft.csv"], dataset, beside=None, folds=0)
