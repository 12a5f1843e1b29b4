"""Which images are held out to validate, where the data set names none: whole groups where there are groups."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from cloudrun.dataset.survey import survey_folder
from cloudrun.errors import JobFileError
from cloudrun.imagedata.dataset import Reading, read_dataset
from cloudrun.imagedata.folders import Dataset, FolderProblem
from cloudrun.imagedata.holdout import hold_out_for
from cloudrun.recipe.train_config import TrainConfig

HERE = Path("/data")


def a_dataset(*counts: int) -> Dataset:
    files = tuple((HERE / f"c{label}" / f"{n}.jpg", label) for label, count in enumerate(counts) for n in range(count))
    return Dataset(HERE, tuple(f"c{label}" for label in range(len(counts))), {"train": files})


def in_groups_of(size: int, dataset: Dataset) -> dict[Path, str]:
    return {path: f"{path.parent.name}/{int(path.stem) // size}" for path, _ in dataset.splits["train"]}


def groups_of(dataset: Dataset, indices: list[int], groups: dict[Path, str]) -> set[str]:
    return {groups[dataset.splits["train"][index][0]] for index in indices}


def test_a_group_is_held_out_whole_or_not_at_all() -> None:
    dataset = a_dataset(40, 20)
    groups = in_groups_of(4, dataset)
    train, val = hold_out_for(dataset, fraction=0.2, seed=0, groups=groups)
    assert not groups_of(dataset, train, groups) & groups_of(dataset, val, groups)
    assert Counter(dataset.splits["train"][index][1] for index in val) == {0: 8, 1: 4}
    assert sorted([*train, *val]) == list(range(60))


def test_the_seed_draws_the_groups_and_the_order_of_the_files_does_not() -> None:
    dataset = a_dataset(40, 40)
    groups = in_groups_of(4, dataset)
    back = Dataset(HERE, dataset.classes, {"train": dataset.splits["train"][::-1]})
    drawn = [groups_of(dataset, hold_out_for(dataset, fraction=0.2, seed=n, groups=groups)[1], groups) for n in (4, 5)]
    assert groups_of(back, hold_out_for(back, fraction=0.2, seed=4, groups=groups)[1], groups) == drawn[0]
    assert drawn[0] != drawn[1]


def test_groups_larger_than_the_share_are_held_out_all_the_same() -> None:
    dataset = a_dataset(60, 60)
    groups = in_groups_of(20, dataset)
    _, val = hold_out_for(dataset, fraction=0.1, seed=0, groups=groups)
    assert Counter(dataset.splits["train"][index][1] for index in val) == {0: 20, 1: 20}


def test_a_class_of_one_group_trains_and_the_others_validate() -> None:
    dataset = a_dataset(30, 8)
    alone = {path: "alone" for path, label in dataset.splits["train"] if label}
    groups = {**in_groups_of(3, dataset), **alone}
    _, val = hold_out_for(dataset, fraction=0.1, seed=0, groups=groups)
    assert {dataset.splits["train"][index][1] for index in val} == {0}


def test_images_without_a_group_are_drawn_one_by_one() -> None:
    dataset = a_dataset(20, 20)
    groups = {path: "one plant" for path, _ in dataset.splits["train"][:5]}
    _, val = hold_out_for(dataset, fraction=0.1, seed=0, groups=groups)
    assert Counter(dataset.splits["train"][index][1] for index in val) == {0: 2, 1: 2}


def test_groups_that_leave_nothing_to_validate_are_refused() -> None:
    dataset = a_dataset(5, 5)
    groups = {path: f"c{label}" for path, label in dataset.splits["train"]}
    with pytest.raises(FolderProblem, match="no group of images can be held out to validate: of the 2 groups"):
        hold_out_for(dataset, fraction=0.1, seed=0, groups=groups)


def test_a_guessed_column_of_patients_is_held_out_whole(tmp_path: Path) -> None:
    rows = ["image,label,patient_id"]
    for number in range(40):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number}.jpg")
        rows.append(f"{number},{'rust' if number % 2 else 'ok'},p{number // 4}")
    labels = tmp_path / "train.csv"
    labels.write_text("\n".join(rows))
    dataset = read_dataset(tmp_path, Reading(labels))
    train, val = hold_out_for(dataset, fraction=0.1, seed=0, groups=dataset.groups)
    names = [path for path, _ in dataset.splits["train"]]
    assert len(val) == 4
    assert not {dataset.groups[names[index]] for index in train} & {dataset.groups[names[index]] for index in val}


def test_check_refuses_groups_that_cannot_be_split(tmp_path: Path) -> None:
    rows = ["image,label,group"]
    for number in range(6):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number}.jpg")
        rows.append(f"{number},{'rust' if number % 2 else 'ok'},{'a' if number % 2 else 'b'}")
    labels = tmp_path / "train.csv"
    labels.write_text("\n".join(rows))
    with pytest.raises(JobFileError, match=r"`train.val_fraction`: no group of images can be held out"):
        survey_folder(tmp_path, custom=False, reading=Reading(labels), train=TrainConfig())
