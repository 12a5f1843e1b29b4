"""What `init` chooses and writes: the file of labels, and a job file that says the same when it is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from cloudrun.dataset.audit import Findings, Look
from cloudrun.dataset.job_template import job_text
from cloudrun.dataset.label_files import look_for_labels, told_labels
from cloudrun.dataset.survey import survey_folder
from cloudrun.errors import JobFileError
from cloudrun.imagedata.dataset import Reading, columns_from, columns_text
from cloudrun.imagedata.label_columns import LabelColumns
from cloudrun.imagedata.walk import FolderProblem
from cloudrun.job.job_file import load_job
from cloudrun.job.plan import make_plan
from cloudrun.job.staging import base_task
from cloudrun.runs.prepare import on_this_computer, reading_of


def draw(folder: Path, *names: str) -> None:
    for place, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (place % 256, 99, 0)).save(path)


def plants(folder: Path, images: str = "train_images") -> None:
    """Eight images to train on, two to predict, and their labels in train.csv, as in Plant Pathology 2021."""
    draw(folder, *(f"{images}/{index}.jpg" for index in range(8)), "test_images/a.jpg", "test_images/b.jpg")
    rows = [f"{index}.jpg,{('rust', 'scab')[index % 2]}" for index in range(8)]
    (folder / "train.csv").write_text("\n".join(["image,labels", *rows]) + "\n")
    (folder / "sample_submission.csv").write_text("image,labels\na.jpg,rust\nb.jpg,scab\n")


_NAMES = (
    "data #2", "leaves: v2", "2021", "[v1] leaf", "@home", "on", "a\ttab", "'quoted'", "ünï", "锈病", "trailing ", "-",
    "null",    "{x}", "a: b #c", "%", "*x", "&y", "!z", "1e3", "yes", '"q"',
)  # fmt: skip


@pytest.mark.parametrize("name", _NAMES)
def test_a_job_file_names_the_folder_that_it_was_written_for(tmp_path: Path, name: str) -> None:
    draw(tmp_path / name, *(f"{label}/{index}.png" for label in "ab" for index in range(3)))
    survey = survey_folder(tmp_path / name, custom=False)
    assert survey is not None
    path = tmp_path / "jobs" / "job.yaml"
    path.parent.mkdir()
    path.write_text(job_text(Findings(survey, Look((), (), (), 0, 0)), relative_to=path.parent, gpu=["A100:1"]))
    assert load_job(path).spec.data.source == str(tmp_path / name)


def test_a_file_that_names_the_images_is_chosen_before_folders(tmp_path: Path) -> None:
    plants(tmp_path)
    assert look_for_labels(tmp_path).path == tmp_path / "train.csv"
    survey = survey_folder(tmp_path, custom=False, labels=tmp_path / "train.csv")
    assert survey is not None
    assert survey.counts == {"train": {"rust": 4, "scab": 4}}
    assert survey.unlabelled_test == 2


def test_without_it_such_folders_are_refused_and_the_file_is_named(tmp_path: Path) -> None:
    plants(tmp_path)
    with pytest.raises(JobFileError, match="train_images has 0 class folder") as caught:
        survey_folder(tmp_path, custom=False)
    assert "train.csv" in caught.value.hint


def test_a_file_that_nobody_reads_is_named_beside_good_folders(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{label}/{label}{index}.png" for label in "ab" for index in range(4)))
    rows = [f"{label}{index}.png,{label}" for label in "ab" for index in range(4)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label", *rows]))
    survey = survey_folder(tmp_path, custom=False)
    assert survey is not None
    assert any("labels.csv names the labels of these images, and is not used" in note for note in survey.notes)


def test_files_that_differ_are_asked_about(tmp_path: Path) -> None:
    draw(tmp_path, *(f"images/{index}.png" for index in range(8)))
    for name, shift in (("train_a.csv", 0), ("train_b.csv", 1)):
        rows = [f"{index},{(index + shift) % 2}" for index in range(8)]
        (tmp_path / name).write_text("\n".join(["image,label", *rows]))
    with pytest.raises(FolderProblem, match=r"2 files may hold the labels, and train_b.csv and train_a.csv differ"):
        look_for_labels(tmp_path)


def test_why_a_file_does_not_do_is_said_where_folders_do_not_either(tmp_path: Path) -> None:
    draw(tmp_path, *(f"images/{index}.png" for index in range(4)))
    (tmp_path / "train.csv").write_text("picture_of,what,colour\nx,y,z\n")
    with pytest.raises(FolderProblem, match=r"as a file of labels, .*no column names the label"):
        look_for_labels(tmp_path)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("train.csv", LabelColumns()),
        ("{file: train.csv, label: diagnosis}", LabelColumns(label="diagnosis")),
        (
            "{file: train.csv, image: id_code, group: p, split: s, separator: ' '}",
            LabelColumns("id_code", None, "p", "s", " "),
        ),
        ("{file: train.csv, label: [a, b]}", LabelColumns(label=("a", "b"))),
        ("{file: train.csv, separator: ''}", LabelColumns(separator="")),
    ],
)
def test_what_the_job_file_says_of_labels_reaches_the_trainer(tmp_path: Path, text: str, columns: LabelColumns) -> None:
    (tmp_path / "plants").mkdir()
    (tmp_path / "job.yaml").write_text(f"infra: local\ndata: {{source: plants, labels: {text}, classes: top}}\n")
    spec = load_job(tmp_path / "job.yaml").spec
    reading = reading_of(spec.data)
    assert (reading.columns, reading.classes) == (columns, "top")
    argv = make_plan(spec, "x-1124-x7k2m", python="python3", base=base_task()).command.argv
    told = argv[argv.index("--columns") + 1] if "--columns" in argv else "{}"
    assert columns_from(told) == columns
    assert argv[argv.index("--classes") + 1] == "top"
    assert type(spec).model_validate(spec.as_plain()) == spec
    assert columns_from(columns_text(columns)) == columns


def test_unreadable_images_within_the_share_are_named_and_skipped(tmp_path: Path) -> None:
    from cloudrun.recipe.train_config import TrainConfig

    draw(tmp_path, *(f"{label}/{index}.png" for label in "ab" for index in range(10)))
    (tmp_path / "a/3.png").write_bytes(b"")
    survey = survey_folder(tmp_path, custom=False, train=TrainConfig(max_unreadable=0.1))
    assert survey is not None
    assert survey.unreadable == (("a/3.png", "it is empty"),)
    with pytest.raises(JobFileError, match=r"3.png cannot be read as an image: it is empty") as caught:
        survey_folder(tmp_path, custom=False, train=TrainConfig(max_unreadable=0.01))
    assert "`max_unreadable` is 0.01" in caught.value.hint


def test_a_class_of_one_image_is_ready_and_warned_of(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{label}/{index}.png" for label in "ab" for index in range(5)), "rare/1.png")
    survey = survey_folder(tmp_path, custom=False)
    assert survey is not None
    assert any("1 class(es) have too few images to validate, and train only: rare" in note for note in survey.notes)


def test_folds_that_cannot_be_dealt_are_refused_before_money_is_spent(tmp_path: Path) -> None:
    from cloudrun.recipe.train_config import TrainConfig

    draw(tmp_path, *(f"{label}/{index}.png" for label in "ab" for index in range(5)), "rare/1.png")
    with pytest.raises(JobFileError, match=r"`train.folds`: all images of the class `rare` are in one of the 5 folds"):
        survey_folder(tmp_path, custom=False, train=TrainConfig(folds=5))


def test_a_job_for_a_gpu_trains_on_the_cpu_of_a_computer_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi
    path = tmp_path / "job.yaml"
    path.write_text("infra: local\ngpu: [A100:1]\ndata: {source: plants}\n")
    job = on_this_computer(load_job(path))
    assert (job.spec.gpu, job.spec.needs_gpu) == ((), False)
    assert "trains on the CPU, not on A100:1" in job.warnings[-1]
    with pytest.raises(JobFileError, match=r"`train.device: cuda` with `infra: local`, and no GPU works"):
        on_this_computer(load_job(path, overrides=["train.device=cuda"]))
    rented = load_job(path, overrides=["infra=aws"])
    assert on_this_computer(rented) is rented


def test_columns_that_are_told_are_written_into_the_job_file(tmp_path: Path) -> None:
    draw(tmp_path / "data", *(f"{index}.png" for index in range(4)))
    rows = [f"{index}.png,{'ab'[index % 2]},{'xy'[index // 2]}" for index in range(4)]
    (tmp_path / "data" / "train.csv").write_text("\n".join(["image,diagnosis,target", *rows]))
    chosen = told_labels("{file: train.csv, label: target, separator: ''}", tmp_path / "data")
    survey = survey_folder(tmp_path / "data", custom=False, reading=Reading(chosen.path, chosen.columns))
    assert survey is not None
    assert survey.counts == {"train": {"x": 2, "y": 2}}
    found = Findings(survey, Look((), (), (), 0, 0))
    path = tmp_path / "job.yaml"
    path.write_text(job_text(found, relative_to=tmp_path, gpu=["A100:1"], columns=chosen.columns))
    data = load_job(path).spec.data
    assert data.labels is not None
    assert data.labels.columns == LabelColumns(label="target", separator="")
    assert data.labels.file == str(tmp_path / "data" / "train.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{file: a, labl: b}", "`--labels`: unknown key `labl`"),
        ("{label: b}", "`--labels`: `labels.file` is missing"),
        ("{file: a", "is not valid YAML"),
    ],
)
def test_labels_that_are_told_wrongly_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FolderProblem, match=message):
        told_labels(text, tmp_path)


def test_the_hint_is_that_of_the_file_of_labels_where_one_lies_there(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{index}.png" for index in range(4)))
    rows = [f"{index}.png,{'ab'[index % 2]},{'xy'[index // 2]}" for index in range(4)]
    (tmp_path / "train.csv").write_text("\n".join(["image,diagnosis,target", *rows]))
    with pytest.raises(FolderProblem, match="`diagnosis` and `target` may both be the label") as caught:
        look_for_labels(tmp_path)
    assert caught.value.hint == (
        "say which: `labels: {file: train.csv, label: target}`; `init` takes the same: `--labels '{file: FILE, ...}'`"
    )


def test_a_column_with_a_value_for_each_image_is_named_as_no_classes(tmp_path: Path) -> None:
    draw(tmp_path, *(f"{index}.png" for index in range(6)))
    (tmp_path / "train.csv").write_text("\n".join(["image,label", *(f"{index}.png,0.{index}" for index in range(6))]))
    with pytest.raises(FolderProblem, match="`label` has 6 values in 6 rows, too many for classes"):
        look_for_labels(tmp_path)


@pytest.mark.parametrize("has_folders", [False, True])
def test_a_list_of_images_is_read_where_the_folders_are_no_classes(tmp_path: Path, has_folders: bool) -> None:
    names = [f"{'ab'[index % 2]}/{index}.png" if has_folders else f"{index}.png" for index in range(6)]
    draw(tmp_path, *names)
    (tmp_path / "train.txt").write_text("".join(f"{name} {index % 2}\n" for index, name in enumerate(names)))
    (tmp_path / "README.txt").write_text("Images of leaves.\nTake care.\n")
    assert look_for_labels(tmp_path).path == (None if has_folders else tmp_path / "train.txt")


@pytest.mark.parametrize(("name", "hint"), [("d.zip", "unpack it, and name the folder"), ("d", "name the folder that")])
def test_a_file_in_place_of_the_data_folder_is_named(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(JobFileError, match="is a file, and not a folder") as caught:
        survey_folder(tmp_path / name, custom=False)
    assert caught.value.hint.startswith(hint)
