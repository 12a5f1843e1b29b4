"""A machine of this computer whose job has ended, with whatever lies on it, and commands typed within the test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cloudrun.cli.main import main
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import now_utc
from cloudrun.state.run import Run
from tests.support.shell import Typed

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
