"""Files of soft labels are read, and each mistake in them named, before money is spent."""

from pathlib import Path

import pytest

from cloudrun.dataset.survey import Survey, survey_folder
from cloudrun.errors import JobFileError
from cloudrun.job.job_file import JobFileProblems
from cloudrun.recipe.train_config import TrainConfig
from trainer.data.leaves import write_leaves


@pytest.fixture
def plants(tmp_path: Path) -> Path:
    write_leaves(tmp_path / "plants", train=8, val=4, test=4, size=32)
    return tmp_path / "plants"


def look(folder: Path, name: str = "soft.csv", *, folds: int = 0) -> Survey:
    survey = survey_folder(folder, custom=False, train=TrainConfig(soft_labels=name, folds=folds))
    assert survey is not None
    return survey


def write(folder: Path, *rows: str, header: str = "image,label,confidence,healthy,multiple,rust,scab") -> None:
    (folder / "soft.csv").write_text("\n".join([header, *rows]) + "\n")


def test_pseudo_labelled_images_count_as_training_images(plants: Path) -> None:
    image = next(iter(sorted((plants / "test").rglob("*.jpg")))).relative_to(plants).as_posix()
    before = survey_folder(plants, custom=False)
    write(plants, f"{image},rust,0.7,0.1,0.1,0.7,0.1")
    survey = look(plants)
    assert before is not None
    assert survey.images_by_split() == {**before.images_by_split(), "train": 9}
    assert "soft labels: 0 labelled image(s), and 1 pseudo-labelled image(s) that train, too" in survey.notes


def test_every_wrong_row_is_named(plants: Path) -> None:
    write(plants, "gone.jpg,rust,0.7,0.1,0.1,0.7,0.1", "test/x,rust,0.7,0.1,0.1,0.7,0.1")
    with pytest.raises(
        JobFileProblems, match=r"`train.soft_labels`: .*soft.csv:2: there is no image `gone.jpg`"
    ) as caught:
        look(plants)
    assert len(caught.value.problems) == 2


def test_columns_that_are_not_the_classes_are_named(plants: Path) -> None:
    write(plants, header="image,healthy,multiple,rust,scap")
    with pytest.raises(JobFileError, match="`scap` is not a class of the data set"):
        look(plants)


def test_a_file_that_would_not_go_to_the_machine_is_not_found(
    plants: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "oof.csv").write_text("image,healthy,multiple,rust,scab\n")
    with pytest.raises(JobFileError, match="there is no file of soft labels") as caught:
        look(plants, "oof.csv")
    assert "data folder" in (caught.value.hint or "")
