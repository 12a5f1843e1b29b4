"""The torch of a machine's image: used where it works, and never where it does not. Images are environments here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cloudrun.job.staging import base_task
from cloudrun.worker import image_torch

CHECKOUT = Path(__file__).parents[3]
SCRIPT = CHECKOUT / "cloudrun" / "worker" / "image_torch.py"
TOOLS = ("bash", "cut", "dirname", "flock", "grep", "head", "mkdir", "rm")


def an_image(folder: Path, **modules: str) -> Path:
    """A Python with the given modules and nothing else; returns the environment's folder."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (place,) = (folder / "lib").glob("python3*/site-packages")
    for name, text in modules.items():
        (place / f"{name}.py").write_text(text)
    return folder


def script(image: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Call the script on a machine whose one Python is the image's."""
    machine = {"PATH": str(image / "tools"), "VIRTUAL_ENV": str(image), "HOME": str(image), **env}
    program = (
        f"import runpy, sys; import cloudrun.worker.image_torch as it; it._PLACES = (); sys.exit(it.main({words!r}))"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**machine, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("modules", "why"),
    [
        ({"torch": "raise ImportError('libcudart.so.12 is missing')"}, "ImportError: libcudart.so.12 is missing"),
        ({"torch": "__version__ = '2.9'"}, "ModuleNotFoundError: No module named 'torchvision'"),
        ({"torch": "import os; os._exit(3)"}, "it ended with 3"),
        ({"torch": "import os; print('{}'); os._exit(0)"}, "it answers otherwise than asked"),
    ],
)
def test_a_broken_torch_is_named_and_not_used(tmp_path: Path, modules: dict[str, str], why: str) -> None:
    image = an_image(tmp_path / "image", **modules)
    done = script(image, "choose")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"torch of {image / 'bin' / 'python'} is not used: {why}" in done.stderr
    assert "this image has no torch that can be used" in done.stderr


# As much of torch as the probe uses, in Python.
TORCH = """
import types
__version__ = "{version}"
version = types.SimpleNamespace(cuda="12.1")
cuda = types.SimpleNamespace(is_available=lambda: {available}, device_count=lambda: 1)
class Number:
    def __init__(self, value): self.value = value
    def __matmul__(self, other): return Number(512.0)
    def sum(self): return self
    mean = sum
    def item(self): return self.value
def ones(*size, device): return Number(27.0)
nn = types.SimpleNamespace(functional=types.SimpleNamespace(conv2d=lambda *_: Number(27.0)))
"""


def an_image_with(folder: Path, *, version: str = "2.9.1", available: bool = True) -> Path:
    image = an_image(folder, torch=TORCH.format(version=version, available=available))
    (place,) = (image / "lib").glob("python3*/site-packages")
    (place / "torchvision" / "transforms").mkdir(parents=True)
    (place / "torchvision" / "__init__.py").write_text("__version__ = '0.24'")
    (place / "torchvision" / "transforms" / "__init__.py").write_text("v2 = None")
    return image


def test_one_that_is_too_old_for_the_trainer_is_not_used(tmp_path: Path) -> None:
    done = script(an_image_with(tmp_path / "image", version="2.6.0"), "choose")
    assert (done.returncode, done.stdout) == (1, "")
    assert "torch 2.6.0 of" in done.stderr
    assert "this trainer needs torch 2.7 or newer" in done.stderr


def test_one_that_works_is_chosen(tmp_path: Path) -> None:
    image = an_image_with(tmp_path / "image")
    done = script(image, "choose")
    assert (done.returncode, done.stdout) == (0, f"{image / 'bin' / 'python'}\n")


def test_one_that_does_not_find_the_gpu_is_not_used(tmp_path: Path) -> None:
    done = script(an_image_with(tmp_path / "image", available=False), "choose", CLOUDRUN_EXPECT_GPU="1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is built for CUDA 12.1, and finds no GPU that works with this driver" in done.stderr


def test_what_fails_in_the_end_is_undone(tmp_path: Path) -> None:
    image = an_image_with(tmp_path / "image")
    venv = an_image(tmp_path / "venv")
    (venv / image_torch.CHOSEN).write_text(f"{image / 'bin' / 'python'}\n")
    (tmp_path / "requirements.txt").write_text("torch==2.15.0\n")
    done = script(image, "use", str(venv), str(tmp_path / "requirements.txt"))
    assert done.returncode == 1
    assert "is not used after all: uv is not here" in done.stderr
    assert not (venv / image_torch.CHOSEN).exists()
    assert list(venv.rglob("*.pth")) == []


@pytest.mark.parametrize(("needed", "code"), [({"CLOUDRUN_NEEDS_TORCH": "1"}, 1), ({}, 0)])
def test_a_torch_that_the_driver_is_too_old_for_fails_the_set_up_of_a_training(
    tmp_path: Path, needed: dict[str, str], code: int
) -> None:
    image = an_image_with(tmp_path / "image", available=False)
    done = subprocess.run(
        [str(image / "bin" / "python"), str(SCRIPT), "check"],
        env={"PATH": "", "CLOUDRUN_EXPECT_GPU": "1", **needed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert "torch 2.9.1 does not work on this machine's GPU: it is built for CUDA 12.1" in done.stderr


def test_the_versions_are_those_of_the_project() -> None:
    told = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert f"torch>={'.'.join(map(str, image_torch.OLDEST_TORCH))}" in told["optional-dependencies"]["trainer"]
    assert told["requires-python"] == f">={'.'.join(map(str, image_torch.OLDEST_PYTHON))}"


@pytest.mark.slow
def test_the_whole_set_up_downloads_no_torch_where_the_image_has_one(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    uv = shutil.which("uv") or str(CHECKOUT / ".uv" / "bin" / "uv")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name) or pytest.skip(f"no {name} here"))
    (tools / "uv").symlink_to(uv)
    image = Path(sys.prefix)  # the environment of these tests has a real torch
    (tools / "python3").symlink_to(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
    kept = {name: value for name, value in os.environ.items() if name.startswith(("UV_", "SSL_"))}
    machine = {
        **kept, "HOME": str(tmp_path), "PATH": str(tools), "VIRTUAL_ENV": str(image), "CLOUDRUN_CODE": str(CHECKOUT),
        "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv")),
    }  # fmt: skip
    done = subprocess.run(
        [str(tools / "bash"), "-c", base_task()["setup"]], env=machine, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "works here: it is used, and none is downloaded" in done.stderr
    venv = tmp_path / "cloudrun" / "venv"
    installed = {path.name for path in (venv / "lib").glob("python3*/site-packages/*")}
    assert {"timm", "numpy", "pydantic", "boto3"} <= installed
    assert not {name for name in installed if name.startswith(("torch", "nvidia", "triton"))}
    shown = subprocess.run(
        [str(venv / "bin" / "python"), "-c", "import torch, timm; print(torch.__file__); print(timm.__file__)"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert Path(shown[0]).is_relative_to(image)
    assert Path(shown[1]).is_relative_to(venv)
