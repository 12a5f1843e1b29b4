"""Use the torch that a rented machine's image has, where it works there, in place of a download of 3 GB.

    image_torch.py choose                         print the Python whose torch works on this machine; nothing: none does
    image_torch.py use VENV REQUIREMENTS          install what is missing beside that torch, and try it
    image_torch.py check                          say whether this Python's torch works with the machine's GPU

`sky.yaml` calls it. What is tried is said on stderr. An image's torch is tried in a process of its own: a matrix
product and a convolution on each GPU, which an old driver, or a GPU that is newer than the build, fails. Standard
library, Python 3.10.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OLDEST_TORCH, BEFORE_TORCH, OLDEST_PYTHON = (2, 7), (3,), (3, 11)
"""The versions that the trainer supports, as pyproject.toml has them."""

CHOSEN = "image-torch"  # in the environment's folder: the Python whose torch it uses
_LINK = "image_torch.pth"
_LIMIT_S = 180.0
_PLACES = (
    "/opt/conda/bin/python", "/opt/venv/bin/python", "/venv/main/bin/python", "/workspace/venv/bin/python",
    "/root/miniconda3/bin/python", "/usr/local/bin/python3", "/usr/bin/python3",
)  # fmt: skip
_ITS_OWN = ("torch", "torchvision")
_STARTS = ("nvidia-", "triton", "torch==", "torchvision==")

_PROBE = """
import importlib.util, json, sys, sysconfig
told = {"python": list(sys.version_info[:2]), "why": ""}
if importlib.util.find_spec("torch") is None:
    told["why"] = "it has no torch"
elif tuple(told["python"]) < tuple(json.loads(sys.argv[1])):
    told["why"] = "its Python is too old"
else:
    import torch, torchvision
    from torchvision.transforms import v2
    told.update(torch=torch.__version__, torchvision=torchvision.__version__, cuda=torch.version.cuda)
    told["paths"] = sorted({str(__import__("pathlib").Path(one.__file__).parents[1]) for one in (torch, torchvision)})
    needs_gpu = json.loads(sys.argv[2])
    if needs_gpu and not torch.cuda.is_available():
        told["why"] = f"it is built for CUDA {torch.version.cuda}, and finds no GPU that works with this driver"
    for place in range(torch.cuda.device_count()) if needs_gpu and not told["why"] else ["cpu"]:
        images = torch.ones(2, 3, 8, 8, device=place)
        if torch.nn.functional.conv2d(images, torch.ones(4, 3, 3, 3, device=place)).mean().item() != 27.0:
            told["why"] = "it computes a wrong convolution"
        if (torch.ones(8, 8, device=place) @ torch.ones(8, 8, device=place)).sum().item() != 512.0:
            told["why"] = "it computes a wrong product"
print("\\n" + json.dumps(told))
"""


def main(words: Sequence[str]) -> int:
    """Do one command; return 0 where it was done, 1 where the usual way is to be gone."""
    match list(words):
        case ["choose"]:
            return _choose()
        case ["use", venv, requirements]:
            return _use(Path(venv), Path(requirements))
        case ["check"]:
            return _check()
        case _:
            _say(__doc__ or "")
            return 2


def _choose() -> int:
    for python in _candidates():
        told = _try(python, needs_gpu=_has_gpu())
        version = _release(told.get("torch", ""))
        if told["why"] == "it has no torch":
            continue
        if not told["why"] and not OLDEST_TORCH <= version < BEFORE_TORCH:
            told["why"] = "this trainer needs torch 2.7 or newer, below 3"
        name = f"torch {told['torch']}" if "torch" in told else "torch"
        if told["why"]:
            _say(f"{name} of {python} is not used: {told['why']}")
            continue
        _say(f"{name} of {python} works here: it is used, and none is downloaded")
        sys.stdout.write(f"{python}\n")
        return 0
    _say("this image has no torch that can be used: it is installed")
    return 1


def _use(venv: Path, requirements: Path) -> int:
    """Put the image's torch into the environment, with all else that is required; undo it where that does not work."""
    python = venv / "bin" / "python"
    link = _site_packages(venv) / _LINK
    chosen = venv / CHOSEN
    base = chosen.read_text(encoding="utf-8").strip()
    told = _try(base, needs_gpu=_has_gpu())
    why = told["why"]
    if not why:
        link.write_text("".join(f"{path}\n" for path in told["paths"]), encoding="utf-8")
        why = _install(python, requirements) or _try(str(python), needs_gpu=_has_gpu())["why"]
    if not why:
        now = _try(str(python), needs_gpu=False)
        if now.get("paths") != told["paths"]:
            why = f"torch is loaded from {now.get('paths')}, not from {told['paths']}"
    if why:
        _say(f"torch of {base} is not used after all: {why}")
        link.unlink(missing_ok=True)
        chosen.unlink(missing_ok=True)
        return 1
    _say(f"torch {told['torch']} and torchvision {told['torchvision']} are those of {base}")
    return 0


def _install(python: Path, requirements: Path) -> str:
    """Install what the requirements name beside torch. Returns why it failed, or nothing."""
    wanted = [line.strip() for line in requirements.read_text(encoding="utf-8").splitlines()]
    wanted = [line for line in wanted if line and not line.startswith(_STARTS)]
    # timm requires torch: for the image's environment nothing of torch is to be installed, at any version.
    excluded = python.parents[1] / "image-torch-overrides.txt"
    excluded.write_text("".join(f"{name} ; python_version < '3'\n" for name in _ITS_OWN), encoding="utf-8")
    uv = shutil.which("uv")
    if uv is None:
        return "uv is not here"
    command = [uv, "pip", "install", "--quiet", "--python", str(python), "--override", str(excluded), *wanted]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else _last_line(done.stderr) or f"uv ended with {done.returncode}"


def _check() -> int:
    """Say whether the torch of this Python works with the GPU, where the machine has one.

    Returns 1 where it does not, and the job is the trainer's: a command of the user's own may not need torch.
    """
    if not _has_gpu():
        return 0
    told = _try(sys.executable, needs_gpu=True)
    if told["why"]:
        _say(f"torch {told.get('torch', '')} does not work on this machine's GPU: {told['why']} ({_driver()})")
        return 1 if os.environ.get("CLOUDRUN_NEEDS_TORCH") else 0
    return 0


def _candidates() -> list[str]:
    """Return the Pythons that an image may keep torch in, each once, in the order in which a shell would find them."""
    named = [
        str(Path(os.environ[name]) / "bin" / "python")
        for name in ("VIRTUAL_ENV", "CONDA_PREFIX")
        if os.environ.get(name)
    ]
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        named += [str(Path(folder) / name) for name in ("python", "python3")]
    found: dict[str, str] = {}
    for path in (*named, *_PLACES):
        if "skypilot-runtime" in path or not os.access(path, os.X_OK):
            continue
        # By the folder: the Python of an environment is a link to one that does not have its packages.
        found.setdefault(str(Path(path).parent.resolve()), path)
    return list(found.values())


def _try(python: str, *, needs_gpu: bool) -> dict[str, Any]:
    """Return what the probe says of a Python's torch; `why`: the reason not to use it, or nothing."""
    command = [python, "-c", _PROBE, json.dumps(OLDEST_PYTHON), json.dumps(needs_gpu)]
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"why": f"it did not answer within {_LIMIT_S:.0f} s"}
    except OSError as err:
        return {"why": err.strerror or repr(err)}
    if done.returncode:
        return {"why": _last_line(done.stderr) or f"it ended with {done.returncode}"}
    try:
        told = json.loads(done.stdout.strip().splitlines()[-1])
        return told if isinstance(told, dict) and "why" in told else {"why": "it answers otherwise than asked"}
    except (ValueError, IndexError):
        return {"why": "it answers otherwise than asked"}


def _has_gpu() -> bool:
    return bool(os.environ.get("CLOUDRUN_EXPECT_GPU")) or _driver() != "no driver"


def _driver() -> str:
    """Return the version of the NVIDIA driver, as nvidia-smi names it."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return "no driver"
    lines = done.stdout.split()
    return f"driver {lines[0]}" if done.returncode == 0 and lines else "no driver"


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _site_packages(venv: Path) -> Path:
    (found,) = (venv / "lib").glob("python3*/site-packages")
    return found


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _say(text: str) -> None:
    sys.stderr.write(f"set-up: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
