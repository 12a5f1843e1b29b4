"""Measure the parts of a run, for the estimates of later runs; done when its bill has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cloudrun.forecast.workload import kind_of, machine_key
from cloudrun.job.spec import JobSpec
from cloudrun.protocol.words import WorkerPhase
from cloudrun.state.ledger import Ledger
from cloudrun.state.received import Summary, summary_at
from cloudrun.state.records import Measured, Phase
from cloudrun.state.run import Run

_SHORTEST_S = 1e-3


def measured_of(run: Run) -> Measured | None:
    """Return the measured times of a run; None where they cannot be told (see `_blank`).

    They come from the worker's phases, the trainer's summary at home, and `run.measured`, which `note` wrote before. A
    resumed run keeps the times of its first attempt, since its phases are of several attempts.
    """
    seen = run.measured or _blank(run)
    if seen is None or not run.phases or run.past_phases or run.earlier:
        return seen
    command_s = _seconds(run, WorkerPhase.RUN)
    changes: dict[str, Any] = {
        "setup_s": (_seconds(run, WorkerPhase.VERIFY) or 0.0) + (_seconds(run, WorkerPhase.PREPARE) or 0.0)
    }
    if run.billed_from is not None and run.started_at is not None:
        changes["provision_s"] = max(0.0, (run.started_at - run.billed_from).total_seconds())
    if run.phase is Phase.SUCCEEDED:
        changes["command_s"] = command_s
    if command_s is not None:
        changes.update(_speeds(summary_at(Path(run.folder))[0] if run.folder else Summary(), command_s))
    return _with(seen, changes)


def note(run: Run, ledger: Ledger, **parts: float) -> Run:
    """Record the times of parts that only this command saw: transfers and the release. Return the new record."""
    seen = run.measured or _blank(run)
    if seen is None:
        return run
    measured = _with(seen, parts)
    return ledger.update(run.run_id, lambda run: run.took(measured))


def _with(seen: Measured, changes: Mapping[str, Any]) -> Measured:
    return Measured.model_validate({**seen.model_dump(), **changes})


def _blank(run: Run) -> Measured | None:
    """Return measurements without any time yet: the kind of run, the machine and the infra.

    None for a run that never had a machine, and for a job of a version that this one does not understand.
    """
    if run.quote is None:
        return None
    try:
        spec = JobSpec.model_validate(run.job)
    except ValidationError:
        return None
    key = machine_key(spec, gpu=run.quote.gpu, machine=run.quote.machine)
    return Measured(kind=kind_of(spec), machine=key, infra=run.quote.infra)


def history(runs: Sequence[Run]) -> list[Measured]:
    """Return the measured times of `runs`, the newest first. Runs of which nothing was measured are left out."""
    return [run.measured for run in reversed(runs) if run.measured is not None]


def _speeds(summary: Summary, command_s: float) -> dict[str, float]:
    train_s, evaluation_s = summary.train_seconds or 0.0, summary.evaluation_seconds or 0.0
    found = {}
    if summary.images_per_s is not None and _is_a_speed(summary.images_per_s):
        found["images_per_s"] = summary.images_per_s
        found["start_s"] = max(0.0, command_s - train_s - evaluation_s)
    if evaluation_s > _SHORTEST_S and summary.evaluated_images:
        per_s = summary.evaluated_images / evaluation_s
        if _is_a_speed(per_s):
            found["evaluated_per_s"] = per_s
    return found


def _is_a_speed(images_per_s: float) -> bool:
    """Return whether a speed is plausible: later estimates divide by it."""
    return 1e-3 <= images_per_s <= 1e7


def _seconds(run: Run, name: WorkerPhase) -> float | None:
    found = [float(phase["seconds"]) for phase in run.phases if phase["name"] == name]
    return sum(found) if found else None
