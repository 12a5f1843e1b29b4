"""Labels in a CSV file: checked before money is spent, written into the job file by `init`, sent with the code."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from cloudrun.dataset.label_files import look_for_labels
from cloudrun.errors import JobFileError
from cloudrun.imagedata.walk import FolderProblem
from cloudrun.job.job_file import load_job
from cloudrun.job.plan import Plan, make_plan
from cloudrun.job.staging import base_task, stage
from tests.support.shell import Shell
from trainer.data.leaves import draw_leaf

NAMES = {"healthy": "healthy", "multiple": "rust scab", "rust": "rust", "scab": "scab"}
TRAIN = """\
train: {backbones: [test_resnet], pretrained: false, image_size: 32, epochs: 1, batch_size: 8, device: cpu, workers: 0}
"""


def plants(folder: Path, *, count: int = 24, labels: dict[str, str] = NAMES) -> list[str]:
    """Drawn leaves in images/, four of them for test alone; the lines of their labels file."""
    lines = ["image_id,labels"]
    (folder / "images").mkdir(parents=True)
    for index in range(count + 4):
        kind = list(NAMES)[index % 4]
        draw_leaf(kind, size=64, seed=f"labels/{index}").save(folder / "images" / f"leaf_{index:03}.jpg")
        if index < count:
            lines.append(f"leaf_{index:03},{labels[kind]}")
    return lines


def write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n")


def a_job(shell: Shell, labels: str = "train.csv") -> str:
    return shell.job(f"name: plants\ninfra: local\ndata: {{source: plants, labels: {labels}}}\n{TRAIN}")


def a_plan(job_path: Path, infra: str) -> Plan:
    spec = load_job(job_path, options={"infra": infra}).spec
    return make_plan(spec, "plants-1124-x7k2m", python="python3", base=base_task())


def test_images_with_several_labels_go_all_the_way(shell: Shell) -> None:
    write(shell.folder / "plants.csv", plants(shell.folder / "plants"))  # beside the job file, not in the data
    done = shell("launch", a_job(shell, "plants.csv"))
    assert done.code == 0, done.err
    assert "macro F1" in done.err
    folder = shell.folder / "runs" / done.out.strip()
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "label", "confidence", "healthy", "rust", "scab"]
    assert [row["image"] for row in rows] == [f"images/leaf_{index:03}.jpg" for index in range(24, 28)]
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["metric_name"], summary["images"]["val"]) == ("val_macro_f1", 3)
    assert "macro F1" in (folder / "report.html").read_text()


@pytest.mark.parametrize("infra", ["local", "slurm"])
@pytest.mark.parametrize("place", ["plants/train.csv", "train.csv"])
def test_the_labels_file_is_frozen_at_launch_beside_the_code(tmp_path: Path, place: str, infra: str) -> None:
    lines = plants(tmp_path / "plants")
    write(tmp_path / place, lines)
    (tmp_path / "job.yaml").write_text("data: {source: plants, labels: train.csv}\n")
    plan = a_plan(tmp_path / "job.yaml", infra)
    stage(plan, tmp_path / "staged")
    write(tmp_path / place, ["changed"])
    assert (tmp_path / "staged" / "labels.csv").read_text().splitlines() == lines
    assert plan.command.argv[-2:] == ["--labels", "{labels}"]


def test_labels_that_only_the_machine_has_are_looked_for_in_its_data(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("data: {source: 's3://bucket/plants', labels: train.csv}\n")
    plan = a_plan(tmp_path / "job.yaml", "slurm")
    assert plan.labels_file is None
    assert plan.command.argv[-2:] == ["--labels", "train.csv"]


def test_check_counts_classes_and_says_what_becomes_of_images_without_a_row(shell: Shell) -> None:
    write(shell.folder / "plants" / "train.csv", plants(shell.folder / "plants"))
    done = shell("check", a_job(shell))
    assert done.code == 0, done.err
    table = [line.split()[:2] for line in done.out.splitlines()[:4]]
    assert table == [["CLASS", "train"], ["healthy", "6"], ["rust", "12"], ["scab", "12"]]
    assert "4 image(s) have no label and are the test set" in done.err
    data = shell("check", "job.yaml", "--json").json["data"]
    assert (data["multi_label"], data["unlabelled_test"]) == (True, 4)
    assert data["labels"] == str(shell.folder / "plants" / "train.csv")


def test_check_names_every_row_that_is_wrong(shell: Shell) -> None:
    lines = plants(shell.folder / "plants")
    write(shell.folder / "plants" / "train.csv", [*lines, "leaf_000,scab", "leaf_999,rust"])
    done = shell("check", a_job(shell))
    assert done.code == 2
    assert "train.csv:26: `leaf_000` is `scab` here and `healthy` in line 2" in done.err
    assert "train.csv:27: there is no image `leaf_999`" in done.err
    problems = shell("check", "job.yaml", "--json").json["problems"]
    assert [problem["place"].rpartition(":")[2] for problem in problems] == ["26", "27"]
    assert shell("launch", "job.yaml").code == 2
    assert not list((shell.home / "ledger").glob("*.json"))


def test_check_shows_the_first_rows_that_are_wrong_and_counts_the_others(shell: Shell) -> None:
    lines = plants(shell.folder / "plants")
    write(shell.folder / "plants" / "train.csv", [*lines, *(f"none_{index},rust" for index in range(30))])
    done = shell("check", a_job(shell))
    assert done.err.count("there is no image") == 20
    assert "and 10 more: `cloudrun check job.yaml --json` lists them" in done.err


def test_images_without_a_row_that_are_not_for_test_are_called_out(shell: Shell) -> None:
    lines = plants(shell.folder / "plants")
    (shell.folder / "plants" / "test").mkdir()
    (shell.folder / "plants/images/leaf_024.jpg").rename(shell.folder / "plants/test/leaf_024.jpg")
    write(shell.folder / "plants" / "train.csv", lines)
    done = shell("check", a_job(shell))
    assert "3 image(s) have no row in" in done.err
    assert "images/leaf_025.jpg" in done.err


def test_a_labels_file_that_is_nowhere_is_named_with_those_that_are_there(shell: Shell) -> None:
    write(shell.folder / "plants" / "train.csv", plants(shell.folder / "plants"))
    done = shell("check", a_job(shell, "labels.csv"))
    assert done.code == 2
    assert "there is no labels file" in done.err
    assert "hint: files there: train.csv" in done.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {source: plants, labels: train.csv}\nrun: python mine.py\n", "only read by the bundled trainer"),
        ("data: {source: 'demo://leaves', labels: train.csv}\n", "lie in class folders"),
    ],
)
def test_labels_that_nobody_would_read_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(JobFileError, match=message):
        load_job(tmp_path / "job.yaml")


def test_init_finds_the_labels_and_writes_them_into_the_job_file(shell: Shell) -> None:
    folder = shell.folder / "plants"
    write(folder / "train.csv", plants(folder))
    write(folder / "sample_submission.csv", ["image_id,labels", "leaf_024,healthy"])
    assert shell("init", "plants").code == 0
    text = (shell.folder / "jobs" / "plants.yaml").read_text()
    assert "  labels: train.csv\n" in text
    assert text.startswith("# 24 train, 4 test images")
    assert "3 classes (an image may have several): healthy, rust, scab" in text
    assert shell("check", "jobs/plants.yaml", "--set", "infra=local").code == 0


def test_init_takes_labels_from_elsewhere(shell: Shell) -> None:
    write(shell.folder / "mine.csv", plants(shell.folder / "plants", labels={name: name for name in NAMES}))
    assert shell("init", "plants", "--labels", "mine.csv").code == 0
    assert "  labels: ../mine.csv\n" in (shell.folder / "jobs" / "plants.yaml").read_text()
    assert shell("check", "jobs/plants.yaml", "--set", "infra=local").code == 0


def test_init_says_what_is_wrong_in_labels_that_are_nearly_right(shell: Shell) -> None:
    write(shell.folder / "plants" / "train.csv", [*plants(shell.folder / "plants"), "gone,rust"])
    done = shell("init", "plants")
    assert done.code == 2
    assert "train.csv:26: there is no image `gone`" in done.err


def test_a_folder_without_any_labels_has_none(tmp_path: Path) -> None:
    lines = plants(tmp_path)
    write(tmp_path / "weights.csv", ["image_id,grams", *(f"x{index},3" for index in range(9))])
    with pytest.raises(FolderProblem, match=r"as a file of labels, .*weights.csv has 1 class"):
        look_for_labels(tmp_path)
    write(tmp_path / "train.csv", lines)
    assert look_for_labels(tmp_path).path == tmp_path / "train.csv"
