"""Which fold each labelled image validates in."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudrun.imagedata.folders import Dataset, FolderProblem, list_dataset
from cloudrun.imagedata.folds import find_groups, fold_of_each, read_groups
from cloudrun.imagedata.labels import list_labelled
from cloudrun.recipe.train_config import TrainConfig

HERE = Path("/data")


def a_dataset(*counts: int) -> Dataset:
    files = tuple((HERE / f"c{label}" / f"{n}.jpg", label) for label, count in enumerate(counts) for n in range(count))
    return Dataset(HERE, tuple(f"c{label}" for label in range(len(counts))), {"train": files})


def test_each_fold_has_its_share_of_each_class_and_folds_differ_by_an_image_at_most() -> None:
    dataset = a_dataset(23, 11, 6)
    fold_of = fold_of_each(dataset, folds=5, seed=0)
    assert sorted(Counter(fold_of).values()) == [8, 8, 8, 8, 8]
    for label, count in enumerate((23, 11, 6)):
        inside = Counter(fold for fold, (_, one) in zip(fold_of, dataset.splits["train"], strict=True) if one == label)
        assert set(inside.values()) <= {count // 5, count // 5 + 1}


def test_folds_follow_from_the_seed_and_not_from_the_order_of_the_files() -> None:
    dataset = a_dataset(12, 9)
    back = Dataset(HERE, dataset.classes, {"train": dataset.splits["train"][::-1]})
    assert fold_of_each(back, folds=3, seed=4)[::-1] == fold_of_each(dataset, folds=3, seed=4)
    assert fold_of_each(dataset, folds=3, seed=4) != fold_of_each(dataset, folds=3, seed=5)


def test_images_of_a_group_share_a_fold_and_classes_stay_spread() -> None:
    dataset = a_dataset(40, 20)
    files = [path for path, _ in dataset.splits["train"]]
    groups = {path: f"{path.parent.name}/{int(path.stem) // 4}" for path in files}
    fold_of = fold_of_each(dataset, folds=5, seed=0, groups=groups)
    folds_of_group: dict[str, set[int]] = {}
    for path, fold in zip(files, fold_of, strict=True):
        folds_of_group.setdefault(groups[path], set()).add(fold)
    assert all(len(one) == 1 for one in folds_of_group.values())
    by_class = Counter((path.parent.name, fold) for path, fold in zip(files, fold_of, strict=True))
    assert all(by_class["c0", fold] == 8 and by_class["c1", fold] == 4 for fold in range(5))


def test_a_class_that_only_one_fold_has_is_refused_by_name() -> None:
    with pytest.raises(FolderProblem, match="class `c1` are in one of the 3 folds"):
        fold_of_each(a_dataset(9, 1), folds=3, seed=0)
    dataset = a_dataset(9, 9)
    one_plant = {path: "plant" for path, label in dataset.splits["train"] if label == 1}
    with pytest.raises(FolderProblem, match="class `c1`"):
        fold_of_each(dataset, folds=3, seed=0, groups=one_plant)


def test_groups_come_from_a_csv_file_a_json_file_or_a_column_of_the_labels(leaves: Path, tmp_path: Path) -> None:
    dataset = list_dataset(leaves)
    images = [path for path, _ in dataset.splits["train"]][:3]
    names = [path.relative_to(leaves).as_posix() for path in images]
    (tmp_path / "g.csv").write_text("image,group\n" + "".join(f"{name},p1\n" for name in names))
    (tmp_path / "g.json").write_text(json.dumps(dict.fromkeys(names, "p1")))
    (tmp_path / "l.csv").write_text(
        "image,label,group\n"
        + "".join(f"{path.relative_to(leaves)},{path.parent.name},p1\n" for path, _ in dataset.splits["train"])
    )
    assert read_groups(tmp_path / "g.csv", dataset) == read_groups(tmp_path / "g.json", dataset)
    assert read_groups(tmp_path / "g.csv", dataset) == dict.fromkeys(images, "p1")
    labelled = list_labelled(leaves, tmp_path / "l.csv")
    assert set((find_groups(None, labelled) or {}).values()) == {"p1"}
    assert labelled.classes == dataset.classes
    (tmp_path / "g.csv").write_text("image,group\nnowhere.png,p1\n")
    with pytest.raises(FolderProblem, match=r"g\.csv:2: there is no labelled image `nowhere.png`"):
        read_groups(tmp_path / "g.csv", dataset)


def test_a_fold_that_is_not_there_is_refused(tiny_config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(ValueError, match="`fold` is 3 of 3 folds"):
        tiny_config(folds=3, fold=3)
    with pytest.raises(ValueError, match="leaves no images to train on"):
        tiny_config(folds=1)
