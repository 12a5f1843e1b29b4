"""What every test shares: a ledger of its own, a way to type commands, and data where they lie."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.seaweedfs import SeaweedFS


@dataclass(frozen=True)
class Typed:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """`cloudrun` as typed by a person whose folder is `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        # HOME: a person who never used SkyPilot, so that nothing asks a cloud.
        self.env = {**os.environ, "HOME": str(folder), "CLOUDRUN_HOME": str(self.home), "NO_COLOR": "1"}
        for name in ("CLOUDRUN_INFRA", "CLOUDRUN_YES", "CLOUDRUN_MAX_COST", "CLOUDRUN_MAX_HOURS"):
            self.env.pop(name, None)

    def __call__(self, *words: str, timeout_s: float = 120) -> Typed:
        done = subprocess.run(
            [sys.executable, "-m", "cloudrun", *words],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        return Typed(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """In a session of its own, so that a signal to it is a signal to it alone."""
        return subprocess.Popen(
            [sys.executable, "-m", "cloudrun", *words],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def job(self, text: str, name: str = "job.yaml") -> str:
        """Write a job file and return its name."""
        (self.folder / name).write_text(text)
        return name


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Whatever a test leaves running on this computer is ended with it."""
    shell = Shell(tmp_path)
    yield shell
    if (shell.home / "ledger").is_dir():
        shell("down", "--all", "--force", "--yes")


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """One S3 server for all tests; each keeps to a prefix of its own."""
    server = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    server.start()
    yield server
    server.stop()


def images(folder: Path, classes: Sequence[str] = ("healthy", "rust"), count: int = 3) -> Path:
    """A small data set of real JPEG files."""
    from PIL import Image

    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (40, 30), (40 * index, 80 * place, 90)).save(folder / name / f"{index}.jpg")
    return folder


@pytest.fixture
def leaves(tmp_path: Path) -> Path:
    return images(tmp_path / "leaves")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and weights: `CLOUDRUN_SHARED`, or a folder `shared` beside the checkout."""
    folder = Path(os.environ.get("CLOUDRUN_SHARED", Path(__file__).parents[1].parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder
