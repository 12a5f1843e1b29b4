"""`cloudrun check`, `init` and `launch` say what makes a score too good, before money is spent."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from cloudrun.dataset.audit import Findings
from cloudrun.dataset.duplicates import find_duplicates
from cloudrun.dataset.survey import Survey, survey_folder
from cloudrun.job.job_file import load_job
from cloudrun.runs.data_check import data_check_of
from cloudrun.runs.prepared import examine, prepare
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import DataCheck
from tests.support.shell import Shell
from trainer.data.leaves import write_leaves


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 train, 8 val and 8 test images in four classes."""
    folder = tmp_path_factory.mktemp("drawn") / "leaves"
    write_leaves(folder, train=24, val=8, test=8, size=128)
    return folder


@pytest.fixture
def plants(drawn: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(drawn, tmp_path / "plants"))


def look_at(folder: Path) -> Findings:
    survey = survey_folder(folder, custom=False)
    assert survey is not None
    return find_duplicates(survey, folder.parent / "home", print)


def test_a_clean_data_set_has_no_warnings(plants: Path) -> None:
    findings = look_at(plants)
    assert findings.warnings() == []
    assert findings.facts() == ["40 images compared: 0 group(s) of copies (0 images)"]


def test_an_image_that_trains_and_is_scored_is_called_out(plants: Path) -> None:
    shutil.copy(plants / "train/rust/rust-0000.jpg", plants / "val/rust/another-name.jpg")
    (warning,) = look_at(plants).warnings()
    assert warning == (
        "1 image(s) stand in train and in val, byte for byte: the score will be too good;"
        " train/rust/rust-0000.jpg = val/rust/another-name.jpg"
    )


def test_a_mirrored_copy_on_the_other_side_of_the_split_is_called_out(plants: Path) -> None:
    image = Image.open(plants / "train/scab/scab-0001.jpg")
    ImageOps.mirror(image).rotate(12).save(plants / "test/scab/new.jpg")
    (warning,) = look_at(plants).warnings()
    assert "1 photograph(s) stand in train and in test as copies" in warning
    assert "train/scab/scab-0001.jpg = test/scab/new.jpg" in warning


def test_copies_on_one_side_are_counted_and_no_reason_for_concern(plants: Path) -> None:
    ImageOps.flip(Image.open(plants / "train/scab/scab-0001.jpg")).save(plants / "train/scab/copy.jpg")
    findings = look_at(plants)
    assert findings.warnings() == []
    assert findings.facts() == ["41 images compared: 1 group(s) of copies (2 images), none on both sides of the split"]
    assert findings.header() == ["CLASS", "train", "val", "test", "DUPLICATES", "COPIES", "GROUPS"]
    assert findings.rows()[3] == ["scab", "7", "2", "2", "0", "2", "1"]


def test_an_image_in_two_classes_is_called_out(plants: Path) -> None:
    shutil.copy(plants / "train/rust/rust-0002.jpg", plants / "train/healthy/rust-0002.jpg")
    warnings = look_at(plants).warnings()
    assert warnings[0] == (
        "1 image(s) stand under different labels, and one of them is wrong:"
        " train/healthy/rust-0002.jpg = train/rust/rust-0002.jpg"
    )
    assert "byte-for-byte duplicates within their split" in warnings[1]


def test_without_a_val_folder_copies_would_be_trained_on_and_held_out_at_once(plants: Path) -> None:
    shutil.rmtree(plants / "val")
    ImageOps.flip(Image.open(plants / "train/scab/scab-0001.jpg")).save(plants / "train/scab/copy.jpg")
    (warning,) = look_at(plants).warnings()
    assert "1 group(s) of copies in train (2 images), and no val folder" in warning


def test_small_and_uneven_classes_are_called_out(tmp_path: Path) -> None:
    folder = tmp_path / "shades"
    for name, count in (("many", 45), ("few", 4)):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (8, 8), (index, count, 0)).save(folder / name / f"{index}.png")
    assert look_at(folder).warnings() == [
        "1 class(es) have under 5 images to train on: few 4",
        "the classes are uneven: 4 images of few, 45 of many (11 times as many); accuracy hides the small ones",
    ]


def test_a_look_is_remembered_until_an_image_changes(plants: Path) -> None:
    look_at(plants)
    (kept,) = (plants.parent / "home" / "looks").iterdir()
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "plain": 7}))
    assert look_at(plants).look.plain == 7
    os.utime(plants / "val/rust/rust-0000.jpg", (1, 1))
    assert look_at(plants).look.plain == 0
    kept.write_text("{")
    assert look_at(plants).look.plain == 0


def test_check_shows_a_table_and_warns_and_its_json_lists_every_group(plants: Path, shell: Shell) -> None:
    shutil.copy(plants / "train/rust/rust-0000.jpg", plants / "test/rust/again.jpg")
    job = shell.job("infra: local\ndata: {source: plants}\ntrain: {pretrained: false}\n")
    done = shell("check", job)
    assert done.code == 0
    assert done.out.splitlines()[0].split() == ["CLASS", "train", "val", "test", "DUPLICATES", "COPIES", "GROUPS"]
    assert "warning: 1 image(s) stand in train and in test, byte for byte" in done.err
    data = shell("check", job, "--json").json["data"]
    assert data["counts"]["train"] == {"healthy": 6, "multiple": 6, "rust": 6, "scab": 6}
    assert data["duplicates"] == [
        [
            {"image": "train/rust/rust-0000.jpg", "split": "train", "class": "rust"},
            {"image": "test/rust/again.jpg", "split": "test", "class": "rust"},
        ]
    ]
    assert (data["compared_images"], len(data["warnings"]), data["scenes"]) == (41, 1, [])


def test_launch_warns_and_init_writes_the_warning_into_the_job_file(plants: Path, shell: Shell) -> None:
    shutil.copy(plants / "train/rust/rust-0000.jpg", plants / "test/rust/again.jpg")
    assert shell("init", "plants").code == 0
    text = (shell.folder / "jobs" / "plants.yaml").read_text()
    assert "\n# look at this: 1 image(s) stand in train and in test, byte for byte" in text
    done = shell("launch", "jobs/plants.yaml", "--infra", "local", "--dry-run")
    assert "warning: 1 image(s) stand in train and in test, byte for byte" in done.err


LEAKY = """\
name: leaky
infra: local
data: {source: plants}
train: {backbones: [test_resnet], pretrained: false, image_size: 32, epochs: 1, device: cpu, workers: 0}
"""


def test_what_was_found_is_prepared_for_the_ledger(plants: Path, shell: Shell) -> None:
    shutil.copy(plants / "train/rust/rust-0000.jpg", plants / "val/rust/again.jpg")
    job = load_job(shell.folder / shell.job(LEAKY))
    ledger = Ledger(shell.home)
    found = prepare(examine(job, ledger, print), ledger).data_check
    assert found is not None
    assert found.counts is not None
    assert (found.counts["val"]["rust"], found.were_compared, len(found.warnings)) == (3, True, 1)
    unseen = prepare(examine(job, ledger, print, closely=False), ledger).data_check
    assert unseen == DataCheck(counts=found.counts, were_compared=False)


@pytest.mark.slow
def test_what_a_launch_found_stands_in_the_report(plants: Path, shell: Shell) -> None:
    shutil.copy(plants / "train/rust/rust-0000.jpg", plants / "val/rust/again.jpg")
    done = shell("launch", shell.job(LEAKY), timeout_s=280)
    assert done.code == 0, done.err
    page = (shell.folder / "runs" / done.out.strip() / "report.html").read_text()
    assert "<li>1 image(s) stand in train and in val, byte for byte: the score will be too good" in page
    assert "Images by class" in page


def test_the_ledger_keeps_no_counts_of_a_thousand_classes(tmp_path: Path) -> None:
    counts = {"train": {f"class {number}": 1 for number in range(1000)}}
    survey = Survey(tmp_path, counts, unlabelled_test=0, size_bytes=1)
    assert data_check_of(survey, None) == DataCheck(counts=None, were_compared=False)
    assert data_check_of(None, None) is None
