"""`predict` and `submit`: a fetched run's model at work on this computer."""

from __future__ import annotations

import csv
import json
import os
import pwd
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from cloudrun.imagedata.image_list import images_at
from cloudrun.recipe.train_config import TrainConfig
from tests.support.desk import Desk
from tests.support.shell import Shell
from tests.support.trainer_runs import TINY, assert_same_predictions
from trainer.data.leaves import write_leaves
from trainer.distributed.stop import StopFlag
from trainer.outputs.progress import SilentProgress
from trainer.session.trained_model import load_trained
from trainer.training.engine import train

PREDICTIONS = """image,label,confidence,healthy,rust
test/b.jpg,rust,0.700000,0.300000,0.700000
test/a.jpg,healthy,0.900000,0.900000,0.100000
"""


@pytest.fixture(scope="module")
def leaves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "leaves"
    write_leaves(folder, train=16, val=8, test=8, size=40)
    return folder


@pytest.fixture(scope="module")
def trained(leaves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a run of one epoch."""
    out = tmp_path_factory.mktemp("run")
    config = TrainConfig.model_validate({**TINY, "backbones": "test_resnet", "epochs": 1, "warmup_epochs": 0})
    train(config, data=leaves, out=out, stop=StopFlag(), progress=SilentProgress())
    return out


@pytest.fixture
def desk_with_run(desk: Desk, trained: Path) -> Desk:
    """A desk whose run plants-1 was fetched, and has ended."""
    desk.ended_run()
    shutil.copytree(trained, desk.home())
    return desk


def test_a_fetched_run_predicts_images_as_it_did(desk_with_run: Desk, leaves: Path) -> None:
    typed = desk_with_run("predict", "plants", str(leaves))
    assert typed.code == 0, typed.err
    written = desk_with_run.home() / "predict-leaves.csv"
    assert typed.out == f"{written}\n"
    assert_same_predictions(written, desk_with_run.home() / "predictions.csv")


def test_predictions_on_stdout_are_nothing_else(desk_with_run: Desk, leaves: Path) -> None:
    typed = desk_with_run("predict", "last", str(leaves), "--out", "-", "--device", "cpu")
    assert typed.code == 0, typed.err
    (desk_with_run.folder / "piped.csv").write_text(typed.out)
    assert_same_predictions(desk_with_run.folder / "piped.csv", desk_with_run.home() / "predictions.csv")


def test_the_folder_of_a_run_is_a_run_too(desk: Desk, trained: Path, leaves: Path) -> None:
    typed = desk("predict", str(trained), str(leaves), "--json", "--out", "p.csv")
    assert typed.json == {"run_id": trained.name, "predictions": "p.csv", "images": 8}


def test_a_run_that_is_not_at_home_is_refused(desk: Desk, leaves: Path) -> None:
    desk.ended_run()
    typed = desk("predict", "plants-1", str(leaves))
    assert typed.code == 1
    assert "error: the checkpoints of `plants-1` are not at home" in typed.err
    assert "`cloudrun fetch plants-1`" in typed.err


def test_images_that_are_not_there_are_told_before_anything_is_loaded(desk_with_run: Desk) -> None:
    typed = desk_with_run("predict", "last", "absent")
    assert typed.code == 1
    assert typed.err.startswith("error: there is no folder or file absent\n")


def test_an_error_of_the_trainer_is_said_once_and_its_code_kept(desk_with_run: Desk, leaves: Path) -> None:
    (desk_with_run.home() / "checkpoints" / "best.pt").unlink()
    typed = Shell(desk_with_run.folder)("predict", "last", str(leaves))
    assert (typed.code, typed.err.count("error:")) == (1, 1)


@pytest.fixture
def predicted(desk: Desk) -> Desk:
    """A desk with a fetched run that has predicted two test images."""
    desk.ended_run(job={"data": {"source": "kaggle://competitions/plants"}})
    desk.home().mkdir(parents=True)
    (desk.home() / "summary.json").write_text("{}")
    (desk.home() / "predictions.csv").write_text(PREDICTIONS)
    return desk


def test_a_submission_has_the_form_of_the_sample(predicted: Desk) -> None:
    Path("sample.csv").write_text("image_id,label\na,healthy\nb,healthy\n")
    typed = predicted("submit", "last", "sample.csv")
    assert (typed.code, typed.out) == (0, "submission.csv\n"), typed.err
    assert Path("submission.csv").read_text() == "image_id,label\na,healthy\nb,rust\n"


def test_the_sample_beside_is_found_and_named(predicted: Desk) -> None:
    Path("sample_submission.csv").write_text("image_id,rust,healthy\nb.jpg,0,0\na.jpg,0,0\n")
    typed = predicted("submit", "last", "--out", "-")
    assert typed.out == "image_id,rust,healthy\nb.jpg,0.700000,0.300000\na.jpg,0.100000,0.900000\n"
    assert "the sample submission is sample_submission.csv" in typed.err


def test_a_sample_of_other_ids_is_refused(predicted: Desk) -> None:
    Path("sample.csv").write_text("image_id,label\na,healthy\nz,healthy\n")
    typed = Shell(predicted.folder)("submit", "last", "sample.csv")
    assert typed.code == 1
    assert "1 of the 2 ids of sample.csv are of no image" in typed.err
    assert not Path("submission.csv").exists()


def test_without_predictions_the_images_are_asked_for_and_predicted(desk_with_run: Desk, leaves: Path) -> None:
    (desk_with_run.home() / "predictions.csv").unlink()
    ids = sorted(path.stem for path in (leaves / "test").rglob("*.jpg"))
    Path("sample.csv").write_text("".join(f"{line}\n" for line in ["id,label", *(f"{name},rust" for name in ids)]))
    refused = desk_with_run("submit", "last", "sample.csv")
    assert refused.code == 2
    assert "hint: name the competition's test images: `--images FOLDER` predicts them first" in refused.err
    typed = desk_with_run("submit", "last", "sample.csv", "--images", str(leaves))
    assert typed.code == 0, typed.err
    assert [line.split(",")[0] for line in Path("submission.csv").read_text().splitlines()[1:]] == ids


@pytest.mark.parametrize(
    "words",
    [
        ("--message", "x"),
        ("--yes",),
        ("--out", "-", "--json"),
        ("--sample", "other.csv"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(predicted: Desk, words: tuple[str, ...]) -> None:
    assert predicted("submit", "last", "sample.csv", *words).code == 2


def test_an_upload_is_asked_about_and_needs_a_terminal_or_yes(predicted: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token-of-ada")
    Path("sample.csv").write_text("image_id,label\na,healthy\nb,healthy\n")
    typed = predicted("submit", "last", "sample.csv", "--upload")
    assert typed.code == 2
    assert "error: an upload is asked about, and there is no terminal\n\nhint: add `--yes`" in typed.err
    assert not Path("submission.csv").exists()


def test_an_upload_needs_a_token(predicted: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    Path("sample.csv").write_text("image_id,label\na,healthy\nb,healthy\n")
    typed = predicted("submit", "last", "sample.csv", "--upload", "--yes")
    assert typed.code == 1
    assert "there is no token for Kaggle here" in typed.err


def test_an_export_is_a_folder_with_a_card(desk_with_run: Desk) -> None:
    typed = desk_with_run("export", "last", "--format", "safetensors", "--json")
    assert typed.code == 0, typed.err
    folder = desk_with_run.home() / "export-safetensors"
    files = ["README.md", "config.json", "model.safetensors", "preprocessing.json"]
    assert typed.json == {"run_id": "plants-1", "format": "safetensors", "folder": str(folder), "files": files}


def test_a_format_that_is_not_known_is_refused_with_those_that_are(desk_with_run: Desk) -> None:
    typed = desk_with_run("export", "last", "--format", "tflite")
    assert (typed.code, typed.err.splitlines()[-1]) == (2, "hint: formats: safetensors, onnx, torch")


@pytest.mark.slow
def test_an_export_to_onnx_installs_its_packages_and_answers_as_the_run_did(
    desk_with_run: Desk, leaves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache" / "uv"
    monkeypatch.setenv("UV_CACHE_DIR", os.environ.get("UV_CACHE_DIR", str(cache)))
    if shutil.which("uv") is None:
        monkeypatch.setenv("PATH", str(Path(__file__).parents[3] / ".uv" / "bin"), prepend=os.pathsep)
    typed = desk_with_run("export", "last", "--format", "onnx", "--out", "model")
    assert typed.code == 0, typed.err
    assert sorted(path.name for path in Path("model").iterdir()) == ["README.md", "model.onnx", "preprocessing.json"]
    trained = load_trained(desk_with_run.home() / "checkpoints" / "best.pt", device="cpu")
    images = images_at(leaves)
    np.save("images.npy", torch.cat([batch.images for batch in trained.loader(images.files).epoch(0)]).numpy())
    program = """
import json, numpy, onnxruntime
session = onnxruntime.InferenceSession("model/model.onnx")
told = session.get_modelmeta().custom_metadata_map
rows = session.run(["probabilities"], {"images": numpy.load("images.npy")})[0]
print(json.dumps([rows.tolist(), json.loads(told["classes"]), json.loads(told["centre_crop"])]))
"""
    (python,) = desk_with_run.ledger.home.glob("environments/export-*/bin/python")
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=True)
    rows, classes, side = json.loads(done.stdout)
    assert (tuple(classes), side) == (trained.classes, 32)
    with (desk_with_run.home() / "predictions.csv").open(newline="") as file:
        expected = {row[0]: [float(cell) for cell in row[3:]] for row in list(csv.reader(file))[1:]}
    assert np.allclose(rows, [expected[name] for name in images.names], atol=1e-4)
