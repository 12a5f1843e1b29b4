"""An exported model answers as the model does, in the programs that it is for; or it is not written."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image

from cloudrun.imagedata.image_list import images_at
from cloudrun.recipe.train_config import TrainConfig
from tests.support.trainer_runs import TINY, Train
from trainer.cli import main
from trainer.distributed.stop import StopFlag
from trainer.errors import TrainerError
from trainer.export import exporting
from trainer.export.deployed import Deployed
from trainer.export.exporting import export_run
from trainer.outputs.progress import SilentProgress
from trainer.session.trained_model import load_trained
from trainer.training.engine import train


def run_of(leaves: Path, out: Path, **changes: Any) -> Path:
    config = TrainConfig.model_validate({**TINY, "epochs": 1, "warmup_epochs": 0, **changes})
    train(config, data=leaves, out=out, stop=StopFlag(), progress=SilentProgress())
    return out


@pytest.fixture(scope="module")
def ensemble(leaves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two backbones, with the mirror image at the end."""
    return run_of(leaves, tmp_path_factory.mktemp("ensemble"), tta="flip")


@pytest.fixture(scope="module")
def single(leaves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one backbone whose weights expect other colours than ImageNet's: a small ViT."""
    return run_of(leaves, tmp_path_factory.mktemp("single"), backbones="test_vit", image_size=64)


def predicted(run: Path) -> dict[str, list[float]]:
    """The probabilities of predictions.csv, by image."""
    with (run / "predictions.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    return {row[0]: [float(value) for value in row[3:]] for row in rows[1:]}


def assert_predicts(rows: torch.Tensor, run: Path, names: tuple[str, ...]) -> None:
    expected = predicted(run)
    assert torch.allclose(rows, torch.tensor([expected[name] for name in names]), atol=1e-4)


def test_one_backbone_loads_in_timm_by_its_own_call(single: Path, leaves: Path, tmp_path: Path) -> None:
    assert main(["export", "--run", str(single), "--format", "safetensors", "--out", str(tmp_path / "out")]) == 0
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    images = images_at(leaves)
    with torch.inference_mode():
        logits = model(torch.stack([transform(Image.open(file).convert("RGB")) for file in images.files]))
    assert_predicts(logits.softmax(1), single, images.names)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["label_names"] == ["healthy", "multiple", "rust", "scab"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md", "config.json", "model.safetensors", "preprocessing.json",
    ]  # fmt: skip


def test_several_backbones_load_by_the_file_beside_them(ensemble: Path, leaves: Path, tmp_path: Path) -> None:
    (exported,) = export_run(ensemble, form="safetensors", out=tmp_path, say=lambda _: None)
    images = images_at(leaves)
    program = "import json, sys; from load import *; print(json.dumps(probabilities(Path('.'), sys.argv[1:]).tolist()))"
    words = [sys.executable, "-c", program, *map(str, images.files)]
    done = subprocess.run(words, cwd=exported.folder, capture_output=True, text=True, check=True)
    assert_predicts(torch.tensor(json.loads(done.stdout)), ensemble, images.names)


def test_torchs_graph_takes_any_number_of_images(ensemble: Path, tmp_path: Path) -> None:
    export_run(ensemble, form="torch", out=tmp_path, say=lambda _: None)
    files = {"preprocessing.json": ""}
    graph = torch.export.load(tmp_path / "model.pt2", extra_files=files).module()
    trained = load_trained(ensemble / "checkpoints" / "best.pt", device="cpu")
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        expected = Deployed.of(trained)(images)
        for size in (1, 5):
            assert torch.allclose(graph(images[:size])[1], expected[1][:size], atol=1e-5)
    assert json.loads(files["preprocessing.json"])["classes"] == list(trained.classes)


def test_a_file_that_answers_otherwise_is_not_written(
    single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = exporting._WRITERS["safetensors"]

    def off(*arguments: Any) -> Callable[[torch.Tensor], torch.Tensor]:
        logits_of = written(*arguments)
        return lambda images: logits_of(images) + 0.1

    monkeypatch.setitem(exporting._WRITERS, "safetensors", off)
    with pytest.raises(TrainerError, match=r"does not answer as the model does: logits differ by 0\.1"):
        export_run(single, form="safetensors", out=tmp_path, say=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_the_card_says_what_the_figures_rest_on(single: Path, tmp_path: Path) -> None:
    export_run(single, form="safetensors", out=tmp_path, say=lambda _: None)
    card = (tmp_path / "README.md").read_text()
    summary = json.loads((single / "summary.json").read_text())
    assert f"`val_accuracy` {summary['val_accuracy']:.4f} in epoch 1, on 12 validation images" in card
    assert f"accuracy {summary['test_accuracy']:.4f} on 12 test images" in card
    assert "`healthy`, `multiple`, `rust`, `scab`" in card
    assert "Trained from random weights" in card
    assert "mean [0.5, 0.5, 0.5]" in card
    assert "had not ended" not in card


def test_a_run_that_was_cut_short_is_exported_and_says_so(single: Path, tmp_path: Path) -> None:
    short = tmp_path / "short"
    shutil.copytree(single / "checkpoints", short / "checkpoints")
    export_run(short, form="safetensors", out=tmp_path / "out", say=lambda _: None)
    assert (
        "The run had not ended: this is its best model up to epoch 1." in (tmp_path / "out" / "README.md").read_text()
    )


def test_each_fold_is_a_model_of_its_own_and_a_stack_is_none(
    leaves: Path, tmp_path: Path, tiny_config: Callable[..., TrainConfig], train_quietly: Train
) -> None:
    for fold in (0, 1):
        config = tiny_config(backbones="test_resnet", epochs=1, warmup_epochs=0, folds=2, fold=fold)
        train_quietly(config, leaves, tmp_path / "run" / f"fold-{fold}")
    with pytest.raises(TrainerError, match="the run was cut short"):
        export_run(tmp_path / "run", form="safetensors", out=tmp_path / "out", say=lambda _: None)
    facts = {"folds": 2, "thresholds": None, "calibration": {"is_applied": False}}
    (tmp_path / "run" / "summary.json").write_text(json.dumps(facts))
    exported = export_run(tmp_path / "run", form="safetensors", out=tmp_path / "out", say=lambda _: None)
    assert [one.folder.name for one in exported] == ["fold-0", "fold-1"]
    assert all((one.folder / "model.safetensors").is_file() for one in exported)
    (tmp_path / "run" / "stacking.json").write_text("{}")
    with pytest.raises(TrainerError, match="is a stack"):
        export_run(tmp_path / "run", form="safetensors", out=tmp_path / "other", say=lambda _: None)


@pytest.mark.parametrize("changes", [{"head": "arcface"}, {"pooling": "gem"}])
def test_a_model_that_timm_has_not_is_refused_as_safetensors(
    leaves: Path, tmp_path: Path, changes: dict[str, str]
) -> None:
    run = run_of(leaves, tmp_path / "run", backbones="test_resnet", **changes)
    with pytest.raises(TrainerError, match="is for models as timm has them") as caught:
        export_run(run, form="safetensors", out=tmp_path / "out", say=lambda _: None)
    assert caught.value.hint == "take `--format onnx` or `--format torch`"
    assert not (tmp_path / "out" / "model.safetensors").exists()
