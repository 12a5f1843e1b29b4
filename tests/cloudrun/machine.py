"""A machine of this computer whose job has ended, with whatever lies on it, and commands typed within the test."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloudrun.cli.main import main
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import now_utc
from cloudrun.state.run import Run

MOMENT = "2026-11-24T12:00:00Z"
RESULT: dict[str, Any] = {
    "reason": "finished",
    "exit_code": 0,
    "message": "finished",
    "started_at": MOMENT,
    "finished_at": MOMENT,
    "phases": [{"name": "run", "from": MOMENT, "to": MOMENT, "seconds": 2.0}],
}
STATUS = {"phase": "run", "heartbeat_at": MOMENT, "started_at": MOMENT, "phases": [], "epoch": 2, "epochs": 3}
JOB = {
    "name": "plants",
    "infra": "local",
    "data": {"source": "/data"},
    "run": "true",
    "budget": {"max_cost": 5.0, "max_hours": 4.0},
    "lifecycle": {"on_finish": "down"},
}


@dataclass(frozen=True)
class Typed:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Desk:
    """A ledger, and the commands of a person in `folder`, without a process for each."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.ledger = Ledger(folder / "home")
        self._capsys = capsys

    def __call__(self, *words: str) -> Typed:
        self._capsys.readouterr()
        code = main(words)
        said = self._capsys.readouterr()
        return Typed(code, said.out, said.err)

    def ended_run(self, run_id: str = "plants-1", **changes: object) -> Path:
        """Record a run whose job has ended, on a machine that is still there; returns the machine's folder."""
        place = self.ledger.home / "local" / run_id
        (place / "out").mkdir(parents=True)
        written = {"result.json": RESULT, "status.json": STATUS, "order.json": {"data_arrives": False}}
        for name, content in written.items():
            (place / name).write_text(json.dumps(content))
        (place / "log.txt").write_text("one line\n")
        (place / "out" / "best.pt").write_bytes(b"weights")
        now = now_utc()
        fields: dict[str, object] = {
            "run_id": run_id, "name": "plants", "backend": "local", "infra": "local", "gpu": (), "job": JOB,
            "job_path": "plants.yaml", "created_at": now, "billed_from": now, "phase": "running",
            "run_uri": place.as_uri(), "folder": str(self.folder / "runs" / run_id), "handed_over": True,
            "quote": {
                "machine": "this computer", "infra": "local", "region": None, "gpu": None, "spot": False,
                "hourly_usd": 1.0, "source": "test", "as_of": now,
            },
        }  # fmt: skip
        self.ledger.add(Run.model_validate({**fields, **changes}))
        return place

    def home(self, run_id: str = "plants-1") -> Path:
        return self.folder / "runs" / run_id


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDRUN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path, capsys)


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("x")


def _of(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3_000_000_000)  # a hole: it takes no room


def _socket(path: Path) -> None:
    os.mknod(path, 0o140644)


BAD: dict[str, Callable[[Path], object]] = {
    "garbage": _of(b"\x00\xff\xfegarbage \xf0\x28"),
    "empty": _of(b""),
    "a list": _of(b"[1, 2]"),
    "a number": _of(b"NaN"),
    "null": _of(b"null"),
    "deep": _of(b"[" * 100_000),
    "deep in an object": _of(b'{"phases": ' + b"[" * 500 + b"]" * 500 + b"}"),
    "400 digits": _of(b'{"epoch": 1' + b"0" * 400 + b', "exit_code": 1' + b"0" * 5000 + b"}"),
    "half": _of(b'{"reason": "fini'),
    "half a pair of surrogates": _of(b'{"reason": "\\ud800", "phase": "\\udfff", "message": "\\ud800"}'),
    "gigabytes": _large,
    "a folder": _folder,
    "a pipe": os.mkfifo,
    "a socket": _socket,
    "a link to itself": lambda path: path.symlink_to(path.name),
}
