"""Python environments beside cloudrun's own, for what it does not need itself: torch, an exporter, Kaggle's client.

Each is made once, by uv, in the folder of cloudrun's state, and is named by what is in it. One that was not finished is
never used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from cloudrun.errors import CloudrunError, UsageError
from cloudrun.files import locks
from cloudrun.trainer import trainer_folder

TRAINER_MODULES = ("torch", "torchvision", "timm", "numpy", "PIL", "pydantic", "yaml")
"""What the trainer imports."""

_PACKAGE = Path(__file__).resolve().parents[1]
_SAID_LINES = 5  # of uv's own error


@dataclass(frozen=True, slots=True)
class Packages:
    """What an environment has: a short name for its folder, requirements as pip writes them, or files of such."""

    name: str
    requirements: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def folder_name(self) -> str:
        """The name, and a digest of all requirements and of this Python's version."""
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        parts = [version, *self.requirements, *(path.read_text(encoding="utf-8") for path in self.files)]
        return f"{self.name}-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:10]}"


class NoEnvironment(CloudrunError):
    """The packages that a command needs cannot be installed."""


def trainer_python(home: Path, say: Callable[[str], None], *, extras: Sequence[tuple[str, str]] = ()) -> Path:
    """Return a Python with the trainer's packages, and those of `extras`: (module, requirement).

    This one where it has them all; else that of an environment of its own, which is made where it is missing. Raises
    UsageError where uv is missing, NoEnvironment where it fails.
    """
    wanted = [*TRAINER_MODULES, *(module for module, _ in extras)]
    if all(find_spec(module) is not None for module in wanted):
        return Path(sys.executable)
    name = "trainer" if not extras else "export"
    requirements = tuple(requirement for _, requirement in extras)
    return environment(home, Packages(name, requirements, (trainer_folder() / "requirements.txt",)), say)


@contextmanager
def trainer_command(python: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Yield the first words of `python -m trainer`, and its environment variables, with this cloudrun's own trainer.

    Another Python finds the packages `cloudrun` and `trainer` by a folder with links to them, and nothing else of this
    one's.
    """
    with TemporaryDirectory(prefix="cloudrun-code-") as name:
        for package, source in (("cloudrun", _PACKAGE), ("trainer", trainer_folder())):
            Path(name, package).symlink_to(source)
        # Safe path: a folder `trainer` in the working directory is not meant.
        env = {**os.environ, "PYTHONPATH": name, "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        yield [str(python), "-m", "trainer"], env


def environment(home: Path, packages: Packages, say: Callable[[str], None]) -> Path:
    """Return the Python of the environment with `packages`; it is made where it is missing.

    Raises UsageError where uv is missing, NoEnvironment where it cannot install them.
    """
    place = home / "environments" / packages.folder_name
    python = place / "bin" / "python"
    if python.exists():
        return python
    uv = find_uv(packages.name)
    place.parent.mkdir(parents=True, exist_ok=True)
    with locks.holding(place.with_name(f"{place.name}.lock")):
        if not python.exists():
            say(f"making an environment with {packages.name}'s packages in {place}; this happens once")
            _make(place, packages, uv, say)
    return python


def find_uv(what: str) -> str:
    """Return uv's path: on PATH, beside this Python, or where its installer puts it. Raises UsageError."""
    beside = [Path(sys.executable).parent / "uv", Path.home() / ".local" / "bin" / "uv"]
    found = shutil.which("uv") or next((str(path) for path in beside if os.access(path, os.X_OK)), None)
    if found is None:
        raise UsageError(
            f"{what}'s packages are not installed in this Python, and uv, which would install them, is not here",
            hint="install it: `curl -LsSf https://astral.sh/uv/install.sh | sh`, or `pip install uv`",
        )
    return found


def _make(place: Path, packages: Packages, uv: str, say: Callable[[str], None]) -> None:
    """Make the environment beside `place`, and rename it: a kill at any moment leaves none that looks finished."""
    partial = place.with_name(f"{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    _run([uv, "venv", "--quiet", "--python", sys.executable, str(partial)], packages)
    wanted = [word for path in packages.files for word in ("-r", str(path))] + list(packages.requirements)
    install = [uv, "pip", "install", "--quiet", "--python", str(partial / "bin" / "python")]
    small = _cpu_torch(packages)
    try:
        _run([*install, *small, *wanted], packages)
    except NoEnvironment as err:
        if not small:
            raise
        say(f"torch for a CPU cannot be had from PyTorch's index ({err.message}); trying the package index's own")
        _run([*install, *wanted], packages)
    partial.rename(place)


def _cpu_torch(packages: Packages) -> list[str]:
    """Return the option for a torch without CUDA, 200 MB in place of 3 GB, where a Linux computer has no GPU."""
    is_small_already = sys.platform != "linux" or not packages.files or "UV_TORCH_BACKEND" in os.environ
    return [] if is_small_already or shutil.which("nvidia-smi") else ["--torch-backend=cpu"]


def _run(command: Sequence[str], packages: Packages) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()][:_SAID_LINES]
        raise NoEnvironment(
            f"uv could not install {packages.name}'s packages: {' '.join(said) or f'exit code {done.returncode}'}",
            hint="check the network and the disk, then try again; a mirror of PyPI: `export UV_DEFAULT_INDEX=...`",
        )
