"""Trackers beside a run: what they get, and that none of them fails or holds up the run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloudrun.recipe.train_config import TrainConfig
from tests.support.checkout import CHECKOUT
from trainer.outputs.metrics import MetricsLog
from trainer.trackers.processes import run_name, tracked

# A package of the name and the calls of wandb that writes down what it is told; it never answers where told so.
WANDB = """
import json, os, pathlib, time
class Settings:
    def __init__(self, **_): pass
class _Run:
    def __init__(self, told): self._file = pathlib.Path(told["dir"], "told.jsonl").open("a"); self._write(told)
    def _write(self, told): print(json.dumps(told), file=self._file, flush=True)
    def log(self, figures, step): self._write({"step": step, **figures})
    def finish(self): self._write({"finish": True})
def init(*, settings, **told):
    print("a banner", flush=True)
    if os.environ.get("FAILS"): raise RuntimeError("no such key: " + os.environ["WANDB_API_KEY"])
    if os.environ.get("HANGS"): time.sleep(600)
    return _Run(told)
"""


@pytest.fixture
def wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "wandb.py").write_text(WANDB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    monkeypatch.setenv("WANDB_API_KEY", "a-key-of-mine")
    monkeypatch.setenv("CLOUDRUN_RUN_ID", "plants-1")


def append(log: MetricsLog, *, epoch: int) -> None:
    figures = {"epoch": epoch, "step": 10 * epoch, "lr": 0.25, "images_per_s": 50.0, "accuracy": 0.5}
    log.append("train", loss=1.0 / epoch, **figures)  # type: ignore[arg-type]
    log.append("val", loss=2.0 / epoch, **figures)  # type: ignore[arg-type]


def config(*names: str, **changes: object) -> TrainConfig:
    return TrainConfig.model_validate({"trackers": names, **changes})


@pytest.mark.usefixtures("wandb")
def test_a_tracker_gets_the_settings_and_the_figures_of_each_step(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    log = MetricsLog(tmp_path / "metrics.jsonl")
    with tracked(config("wandb", seed=7), out=tmp_path, say=said.append, is_main=True):
        append(log, epoch=1)
        append(log, epoch=2)
    first, *rows, last = map(json.loads, (tmp_path / "told.jsonl").read_text().splitlines())
    assert (first["project"], first["id"], first["config"]["seed"]) == ("cloudrun", "plants-1", 7)
    assert rows[0] | rows[-1] == rows[-1]
    assert rows[-1]["step"] == 20
    assert {name: rows[-1][name] for name in ("train/loss", "val/loss", "lr")} == {
        "train/loss": 0.5, "val/loss": 1.0, "lr": 0.25,
    }  # fmt: skip
    assert last == {"finish": True}
    assert (said, capfd.readouterr()) == ([], ("", ""))  # and nothing of its banner


@pytest.mark.usefixtures("wandb")
def test_a_tracker_that_fails_says_so_once_without_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAILS", "1")
    with tracked(config("wandb"), out=tmp_path, say=print, is_main=True):
        append(MetricsLog(tmp_path / "metrics.jsonl"), epoch=1)
    assert capfd.readouterr().err == "warning: wandb gets no figures of this run: no such key: $WANDB_API_KEY\n"


def test_a_tracker_that_is_not_installed_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with tracked(config("aim"), out=tmp_path, say=print, is_main=True):
        pass
    assert capfd.readouterr().err == "warning: aim gets no figures of this run: the package `aim` is not installed\n"


@pytest.mark.usefixtures("wandb")
def test_a_tracker_that_never_answers_is_ended_after_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANGS", "1")
    monkeypatch.setattr("trainer.trackers.processes._LAST_ROWS_S", 0.2)
    said: list[str] = []
    began = time.monotonic()
    with tracked(config("wandb"), out=tmp_path, say=said.append, is_main=True):
        pass
    assert time.monotonic() - began < 10
    assert said == ["warning: wandb has not taken all figures within 0.2 s: metrics.jsonl has them"]


def test_only_the_main_process_starts_trackers(tmp_path: Path) -> None:
    with tracked(config("wandb"), out=tmp_path, say=pytest.fail, is_main=False):
        pass
    assert list(tmp_path.iterdir()) == []


def test_each_fold_is_a_run_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_name(tmp_path / "my-run", config()) == "my-run"
    assert run_name(tmp_path / "my-run" / "fold-3", config(folds=5)) == "my-run-fold-3"
    monkeypatch.setenv("CLOUDRUN_RUN_ID", "plants-1")
    assert run_name(tmp_path / "out" / "fold-3", config(folds=5)) == "plants-1-fold-3"


def run_with(python: Path, name: str, out: Path, **environment: str) -> str:
    """Run a tracker's process with the packages of `python`; its standard error."""
    done = subprocess.run(
        [python, "-m", "trainer.trackers", name, out, "plants-1"],
        input=b'{"seed": 7}\n',
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(CHECKOUT), "HOME": str(out), **environment},
        capture_output=True,
        timeout=120,
    )
    return done.stderr.decode()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the trackers' real packages."""
    place = tmp_path_factory.mktemp("trackers") / "venv"
    uv = shutil.which("uv") or str(CHECKOUT / ".uv" / "bin" / "uv")
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, place], check=True)
    python = place / "bin" / "python"
    subprocess.run([uv, "pip", "install", "-q", "--python", python, "wandb", "mlflow-skinny"], check=True)
    return python


@pytest.mark.slow
def test_wandb_itself_writes_an_offline_run_where_it_has_no_key(real: Path, tmp_path: Path) -> None:
    append(MetricsLog(tmp_path / "metrics.jsonl"), epoch=1)
    assert run_with(real, "wandb", tmp_path) == ""
    (stored,) = (tmp_path / "wandb").glob("offline-run-*/run-plants-1.wandb")
    assert b"train/loss" in stored.read_bytes()


@pytest.mark.slow
def test_mlflow_itself_has_each_step_once_also_after_a_resume(real: Path, tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    append(log, epoch=1)
    assert run_with(real, "mlflow", tmp_path) == ""
    append(log, epoch=2)
    assert run_with(real, "mlflow", tmp_path) == ""
    (losses,) = (tmp_path / "mlruns").rglob("val/loss")
    assert [line.split()[1:] for line in losses.read_text().splitlines()] == [["2.0", "10"], ["1.0", "20"]]
    (seed,) = (tmp_path / "mlruns").rglob("params/seed")
    assert seed.read_text() == "7"
