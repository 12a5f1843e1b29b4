"""cloudrun installed from its wheel, beside another distribution that owns the top-level package `trainer`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT

JOB = """\
name: installed
infra: local
data: {source: "demo://leaves"}
train: {backbones: [test_resnet], pretrained: false, image_size: 32, epochs: 1, device: cpu, workers: 0}
"""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installation:
    """A virtual environment with cloudrun in it, and an empty folder of a person who uses it."""

    venv: Path
    folder: Path

    def __call__(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "HOME": str(self.folder), "CLOUDRUN_HOME": str(self.folder / "home"), "NO_COLOR": "1"}
        env.pop("PYTHONPATH", None)
        return subprocess.run(
            [str(self.venv / "bin" / words[0]), *map(str, words[1:])],
            cwd=self.folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
        )  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """cloudrun's wheel and a distribution `trainer` in a new environment; what both need is this environment's."""
    place = tmp_path_factory.mktemp("installed")
    uv = shutil.which("uv") or str(CHECKOUT / ".uv" / "bin" / "uv")
    subprocess.run([uv, "build", "-q", "--wheel", "--offline", "-o", place / "dist", CHECKOUT], check=True)
    (wheel,) = (place / "dist").glob("*.whl")
    venv = place / "venv"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, venv], check=True)
    python = venv / "bin" / "python"
    other = _wheel_of_another_trainer(place)
    subprocess.run([uv, "pip", "install", "-q", "--offline", "--no-deps", "--python", python, wheel, other], check=True)
    (site,) = venv.glob("lib/python3*/site-packages")
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")  # torch, SkyPilot and the rest, not copied
    (place / "user").mkdir()
    return Installation(venv, place / "user")


def _wheel_of_another_trainer(place: Path) -> Path:
    path = place / "trainer-9.9-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("trainer/__init__.py", "OWNER = 'another distribution'\n")
        info = "trainer-9.9.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: trainer\nVersion: 9.9\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


def test_the_top_level_package_trainer_stays_the_other_distributions(installed: Installation) -> None:
    said = installed("python", "-c", "import cloudrun, trainer; print(trainer.OWNER, cloudrun.__file__)")
    assert said.stdout.startswith(f"another distribution {installed.venv}"), said.stderr


def test_a_job_file_is_checked(installed: Installation) -> None:
    (installed.folder / "job.yaml").write_text(JOB)
    done = installed("cloudrun", "check", "job.yaml")
    assert done.returncode == 0, done.stderr


def test_a_launch_on_this_computer_trains_with_the_bundled_trainer(installed: Installation) -> None:
    (installed.folder / "job.yaml").write_text(JOB)
    done = installed("cloudrun", "launch", "--yes", "job.yaml")
    assert done.returncode == 0, done.stderr
    results = installed.folder / "runs" / done.stdout.strip()
    assert {"summary.json", "metrics.jsonl", "checkpoints"} <= {path.name for path in results.iterdir()}


def test_the_demo_and_the_list_prices_are_in_the_wheel(installed: Installation) -> None:
    done = installed("cloudrun", "demo", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "machine  this computer" in done.stdout
    assert "list price, not yours" in installed("cloudrun", "gpus").stderr


def test_the_bundled_trainer_runs_by_itself_in_two_processes(installed: Installation) -> None:
    leaves = ("--out", "leaves", "--train", "8", "--val", "4", "--test", "4", "--size", "32")
    drawn = installed("python", "-m", "cloudrun.trainer", "leaves", *leaves)
    assert drawn.returncode == 0, drawn.stderr
    (installed.folder / "train.yaml").write_text(
        "{backbones: [test_resnet], pretrained: false, image_size: 32, epochs: 1, batch_size: 8, workers: 0}"
    )
    words = ("--config", "train.yaml", "--data", "leaves", "--out", "out", "--processes", "2")
    trained = installed("python", "-m", "cloudrun.trainer", "train", *words)
    assert trained.returncode == 0, trained.stderr
    assert (installed.folder / "out" / "summary.json").is_file()
