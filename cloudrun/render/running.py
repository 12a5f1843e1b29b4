"""Say in one line each what a run that goes on does, how far it is, and what it costs. Pure.

The live view of `cloudrun launch` and the dashboard of `cloudrun watch` show the same words.
"""

from __future__ import annotations

from datetime import datetime

from cloudrun.billing.cost import cost_of
from cloudrun.protocol.words import WorkerPhase
from cloudrun.state.records import Phase, Progress
from cloudrun.state.run import Run
from cloudrun.text.units import duration, times

STAGES = ("rent", "set up", "train", "bring home")
"""The stages of a run, in order."""
DATA = "data"
"""The stage between `set up` and `train`, where the machine waits for the rest of the images."""


def stage_of(run: Run | None, progress: Progress | None) -> str:
    """Return the stage that a run is in, by its record and by its worker's last heartbeat."""
    if run is None or run.phase is Phase.LAUNCHING:
        return "rent"
    if run.phase.is_final:
        return "bring home"
    phase = progress.phase if progress is not None else None
    if phase in (WorkerPhase.SYNC, WorkerPhase.WAIT):
        return DATA
    return "train" if phase == WorkerPhase.RUN or run.phase is Phase.RUNNING else "set up"


def done_share(progress: Progress | None) -> float | None:
    """Return the finished part of the training, from 0 to 1, by finished steps; None where nobody knows.

    An epoch that goes on counts by its finished steps; of a command that tells no steps, finished epochs count alone.
    """
    if progress is None or not progress.epoch or not progress.epochs:
        return None
    of_epoch = min(progress.step / progress.steps, 1.0) if progress.step is not None and progress.steps else 0.0
    return min((progress.epoch - 1 + of_epoch) / progress.epochs, 1.0)


def epoch_share(progress: Progress | None) -> float | None:
    """Return the finished part of the present epoch, from 0 to 1; None where the command tells no steps."""
    if progress is None or progress.step is None or not progress.steps:
        return None
    return min(progress.step / progress.steps, 1.0)


def progress_text(progress: Progress | None) -> str:
    """Return `epoch 3/30, step 40/120, 12 min 05 s left, 312 images/s, loss 0.4134`, as far as it is known."""
    if progress is None or not progress.epoch:
        return "no epoch yet"
    parts = [f"epoch {progress.epoch}/{progress.epochs}" if progress.epochs else f"epoch {progress.epoch}"]
    if progress.step is not None and progress.steps:
        parts.append(f"step {progress.step}/{progress.steps}")
    if progress.eta_s:
        parts.append(f"{duration(progress.eta_s)} left")
    if progress.images_per_s:
        parts.append(f"{progress.images_per_s:.0f} images/s")
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4f}")
    return ", ".join(parts)


def machine_text(run: Run) -> str:
    """Return `A100:1 on runpod/US, $1.19 an hour`, or what of it is known; for a free machine without a price."""
    price = run.price
    if price is None:
        return " or ".join(run.gpu) or "a machine"
    where = price.infra if price.region is None else f"{price.infra}/{price.region}"
    what = times(run.nodes, price.gpu or price.machine)
    cost = f", ${price.total_hourly_usd:.2f} an hour" if price.total_hourly_usd else ""
    return f"{what} on {where}{cost}"


def money_share(run: Run, now: datetime) -> float:
    """Return the used part of the budget, from 0 to 1: of its dollars or of its hours, whichever is used further."""
    cost, (max_cost, max_hours) = cost_of(run, now), limits(run)
    return min(max(float(cost.usd) / max_cost if max_cost else 0.0, cost.hours / max_hours if max_hours else 0.0), 1.0)


def money_text(run: Run, now: datetime) -> str:
    """Return `$0.31 of $5.00, 16 min 02 s of 4 h`; without dollars for a machine that is free."""
    cost, (max_cost, max_hours) = cost_of(run, now), limits(run)
    usd = f"${float(cost.usd):.2f}" + (f" of ${max_cost:.2f}" if max_cost else "")
    is_free = not cost.usd and run.price is not None and not run.price.total_hourly_usd
    time = duration(cost.hours * 3600) + (f" of {max_hours:g} h" if max_hours else "")
    return f"free, {time}" if is_free else f"{usd}, {time}"


def limits(run: Run) -> tuple[float | None, float | None]:
    """Return the budget's limits, (USD, hours); None for a limit that the job does not tell."""
    budget = run.job.get("budget") or {}
    return budget.get("max_cost"), budget.get("max_hours")


def bar_text(share: float | None, width: int, *, full: str = "█", empty: str = "░") -> str:
    """Return a bar of `width` letters; the empty part shows the scale without colours, too."""
    filled = round(width * min(max(share or 0.0, 0.0), 1.0))
    return full * filled + empty * (width - filled)
