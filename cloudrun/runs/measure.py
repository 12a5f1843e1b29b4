"""What a run took, part by part, for the estimates of later ones; read when its bill has ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cloudrun.ledger import Ledger
from cloudrun.run import Measured, Phase, Run
from cloudrun.spec import JobSpec
from cloudrun.workload import kind_of, machine_key


def measured_of(run: Run) -> Measured | None:
    """From the worker's phases, the trainer's summary at home, and what was measured on the way (`run.measured`).

    A resumed run keeps what its first machine told: its parts are of several.
    """
    seen = run.measured or _blank(run)
    if seen is None or not run.phases or run.past_phases or run.earlier:
        return seen
    command_s = _seconds(run, "run")
    changes: dict[str, Any] = {"setup_s": (_seconds(run, "verify") or 0.0) + (_seconds(run, "prepare") or 0.0)}
    if run.billed_from is not None and run.started_at is not None:
        changes["provision_s"] = max(0.0, (run.started_at - run.billed_from).total_seconds())
    if run.phase is Phase.SUCCEEDED:
        changes["command_s"] = command_s
    if command_s is not None:
        changes.update(_speeds(_summary(run), command_s))
    return seen.model_copy(update=changes)


def note(run: Run, ledger: Ledger, **parts: float) -> Run:
    """Remember a part that only the command which saw it can tell: the transfers and the release."""
    seen = run.measured or _blank(run)
    return run if seen is None else ledger.change(run.run_id, measured=seen.model_copy(update=parts))


def _blank(run: Run) -> Measured | None:
    """None for a run that never had a machine, and for a job of a version that this one does not understand."""
    if run.quote is None:
        return None
    try:
        spec = JobSpec.model_validate(run.job)
    except ValidationError:
        return None
    key = machine_key(spec, gpu=run.quote.gpu, machine=run.quote.machine)
    return Measured(kind=kind_of(spec), machine=key, infra=run.quote.infra)


def history(runs: Sequence[Run]) -> list[Measured]:
    """Newest first. Runs of which nothing was measured are left out."""
    return [run.measured for run in reversed(runs) if run.measured is not None]


def _speeds(summary: dict[str, Any], command_s: float) -> dict[str, float]:
    train_s, evaluation_s = summary.get("train_seconds") or 0.0, summary.get("evaluation_seconds") or 0.0
    found = {}
    if summary.get("images_per_s"):
        found["images_per_s"] = summary["images_per_s"]
        found["start_s"] = max(0.0, command_s - train_s - evaluation_s)
    if evaluation_s and summary.get("evaluated_images"):
        found["evaluated_per_s"] = summary["evaluated_images"] / evaluation_s
    return found


def _summary(run: Run) -> dict[str, Any]:
    try:
        value = json.loads((Path(run.folder or "") / "summary.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _seconds(run: Run, name: str) -> float | None:
    found = [float(phase["seconds"]) for phase in run.phases if phase["name"] == name]
    return sum(found) if found else None
