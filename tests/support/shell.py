"""Type `cloudrun` as a person does, and write small data sets to type it about."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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


def wait_until_log_has(shell: Shell, text: str) -> None:
    """Wait until `cloudrun logs` prints `text`."""
    until = time.monotonic() + 60
    while text not in shell("logs", "--no-follow").out:
        assert time.monotonic() < until
        time.sleep(0.05)


def images(folder: Path, classes: Sequence[str] = ("healthy", "rust"), count: int = 3) -> Path:
    """A small data set of real JPEG files."""
    from PIL import Image

    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (40, 30), (40 * index, 80 * place, 90)).save(folder / name / f"{index}.jpg")
    return folder
