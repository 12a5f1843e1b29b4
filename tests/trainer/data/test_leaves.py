"""The drawn data set of the demo."""

from pathlib import Path

import pytest

from cloudrun.imagedata.folders import list_dataset
from trainer.data.leaves import draw_leaf, write_leaves
from trainer.errors import TrainerError


def test_leaves_fill_three_splits_of_four_classes(leaves: Path) -> None:
    dataset = list_dataset(leaves)
    assert dataset.classes == ("healthy", "multiple", "rust", "scab")
    assert {split: len(files) for split, files in dataset.splits.items()} == {"train": 32, "val": 12, "test": 12}


def test_the_seed_decides_every_pixel() -> None:
    assert draw_leaf("rust", size=32, seed="1").tobytes() == draw_leaf("rust", size=32, seed="1").tobytes()
    assert draw_leaf("rust", size=32, seed="1").tobytes() != draw_leaf("rust", size=32, seed="2").tobytes()


def test_drawing_again_changes_nothing_and_other_files_are_never_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "leaves"
    write_leaves(folder, train=4, val=4, test=4, size=32)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
    write_leaves(folder, train=4, val=4, test=4, size=32)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")} == before
    with pytest.raises(TrainerError, match="holds something else"):
        write_leaves(folder, train=8, val=4, test=4, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["leaves"]
