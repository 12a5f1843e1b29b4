"""What changes while a run goes on, and how it is kept in checkpoints and found there again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from cloudrun.recipe.train_config import TrainConfig
from trainer.distributed.ranks import Ranks
from trainer.errors import TrainerError
from trainer.model.optim import align_moments
from trainer.model.targets import naming_of
from trainer.outputs import checkpoint
from trainer.outputs.checkpoint import State
from trainer.outputs.diagnosis import Finding
from trainer.outputs.metrics import MetricsLog
from trainer.outputs.progress import Progress
from trainer.outputs.timing import Timing
from trainer.outputs.writer import CheckpointWriter
from trainer.session.autotune_result import Tuned
from trainer.session.build import open_session
from trainer.session.epoch_stats import FirstBadStep, Tally
from trainer.session.scores import Rating
from trainer.session.setup import Session


@dataclass
class Position:
    """How far a run has come: `step` of `epoch` (from 1) are done."""

    epoch: int = 1
    step: int = 0


@dataclass
class Best:
    """Of the epochs so far: highest accuracy on val, then the lowest loss.

    Where an image may have several classes, the highest macro F1 at the `thresholds` that val likes best.
    """

    epoch: int = 0
    accuracy: float = -1.0
    loss: float = float("inf")
    macro_f1: float | None = None
    thresholds: list[float] | None = None

    def is_beaten_by(self, rating: Rating, loss: float) -> bool:
        mine = self.accuracy if self.macro_f1 is None else self.macro_f1
        metric = rating.accuracy if rating.macro_f1 is None else rating.macro_f1
        return (metric, -loss) > (mine, -self.loss)


@dataclass
class Run:
    """Everything that changes while a run goes on."""

    session: Session
    out: Path
    position: Position
    tally: Tally
    best: Best
    bad: FirstBadStep
    trained_s: float
    trained_images: int
    trained_work: float  # those images, a smaller one counting less
    saved_at: float
    timing: Timing
    lr_factor: float = 1.0  # less than 1 once the loss was not finite
    writer: CheckpointWriter = field(default_factory=CheckpointWriter)
    has_stepped: bool = False  # in this process
    runs_after: int = 0  # as long as this one
    findings: list[Finding] = field(default_factory=list)
    metrics: MetricsLog = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = MetricsLog(self.metrics_path)

    @property
    def metrics_path(self) -> Path | None:
        return self.out / "metrics.jsonl" if self.session.ranks.is_main else None

    @property
    def best_path(self) -> Path:
        return self.out / "checkpoints" / "best.pt"

    @property
    def last_path(self) -> Path:
        return self.out / "checkpoints" / "last.pt"


def saved_in(path: Path) -> State | None:
    return checkpoint.load(path) if path.exists() else None


def open_run(
    config: TrainConfig, *, data: Path, labels: Path | None, out: Path, progress: Progress, ranks: Ranks
) -> Run:
    last_path = out / "checkpoints" / "last.pt"
    saved = ranks.from_main(lambda: saved_in(last_path))
    holders = [rank for rank, has_one in enumerate(ranks.gather(last_path.exists())) if has_one]
    if saved is None and holders:
        raise TrainerError(
            f"process {holders[0]} has {last_path}, and the main one, of another machine, has not",
            hint="start torchrun with the `--node-rank` of before on each machine, or move the folder to the first",
        )
    if saved is not None:
        checkpoint.check_config(saved["config"], config, last_path)
    batch_size = saved["batch_size"] if saved else None
    session = open_session(config, data, labels=labels, batch_size=batch_size, ranks=ranks)
    for line in [*session.describe(), *session.unreadable.lines]:
        progress.say(line)
    session.unreadable.say = progress.say
    if ranks.is_main:
        out.mkdir(parents=True, exist_ok=True)
    bad = FirstBadStep(session.device.torch_device)
    now = time.monotonic()
    if saved is not None and saved["data_digest"] != session.data_digest:
        raise TrainerError(
            f"the images that train and validate are not those that {out} was trained on",
            hint="restore the data folder (and the file of groups, where there is one), or name another `--out` folder",
        )
    timing = Timing(steps_per_epoch=session.steps_per_epoch)
    run = Run(session, out, Position(), session.new_tally(), Best(), bad, 0.0, 0, 0.0, now, timing)
    if saved is None:
        return run
    load_into(run, saved)
    session.tuned = Tuned.from_plain(saved["tuned"]) if saved.get("tuned") else None
    if run.best.epoch and ranks.is_main and not run.best_path.exists():
        raise TrainerError(
            f"{run.best_path} is gone, and {run.last_path} goes on from it",
            hint=f"restore it, or remove {run.best_path.parent} to start afresh",
        )
    progress.say(f"resumed from {last_path}: epoch {run.position.epoch}, step {run.position.step} done")
    if saved["config"]["epochs"] != config.epochs:
        were = saved["config"]["epochs"]
        progress.say(
            f"epochs were {were} and are now {config.epochs}: the learning rate follows the new cosine from here"
        )
    return run


def load_into(run: Run, saved: State) -> None:
    session = run.session
    session.model.load_state_dict(saved["model"])
    session.optimizer.load_state_dict(saved["optimizer"])
    align_moments(session.optimizer)
    if saved["scaler"]:  # empty from a card that trains in bf16, or a CPU
        session.scaler.load_state_dict(saved["scaler"])
    if session.ema:
        session.ema.load_state_dict(saved["ema"])
    run.metrics = MetricsLog(run.metrics_path, saved["metrics"])
    run.position = Position(saved["epoch"], saved["step"])
    run.tally = session.new_tally(**saved["tally"])
    run.best = Best(**saved["best"])
    run.trained_s, run.trained_images = saved["trained_s"], saved["trained_images"]
    run.trained_work = saved.get("trained_work", run.trained_images)
    run.lr_factor = saved["lr_factor"]
    run.findings = [Finding(**one) for one in saved.get("findings", ())]
    session.unreadable.remember(session.dataset.folder / name for name in saved.get("unreadable", ()))
    run.saved_at = time.monotonic()


def save(run: Run) -> None:
    """The processes are equal after each step, so one of them knows all that there is to keep."""
    session, tally = run.session, run.tally
    run.saved_at = time.monotonic()
    if not session.ranks.is_main:
        return
    state: State = {
        **_what_is_trained(run),
        "optimizer": session.optimizer.state_dict(),
        "scaler": session.scaler.state_dict(),
        "batch_size": session.batch_size,
        "tuned": session.tuned.as_plain() if session.tuned else None,
        "data_digest": session.data_digest,
        "tally": tally.as_plain(),
        "best": vars(run.best),
        "metrics": run.metrics.text,
        "findings": [one.as_plain() for one in run.findings],
        "unreadable": session.unreadable_names(),
        "trained_s": run.trained_s,
        "trained_images": run.trained_images,
        "trained_work": run.trained_work,
        "lr_factor": run.lr_factor,
        "ema": session.ema.state_dict() if session.ema else None,
    }
    run.writer.save(state, run.last_path)


def save_best(run: Run) -> None:
    if not run.session.ranks.is_main:
        return
    state: State = {
        **_what_is_trained(run),
        "val_accuracy": run.best.accuracy,
        "val_loss": run.best.loss,
    }
    run.writer.save(state, run.best_path)


def _what_is_trained(run: Run) -> State:
    """What both checkpoints hold: to predict with one, nothing else is needed."""
    session = run.session
    return {
        "config": session.config.model_dump(mode="json"),
        "classes": list(session.dataset.classes),
        "naming": naming_of(session.targets, run.best.thresholds).as_plain(),
        "epoch": run.position.epoch,
        "step": run.position.step,
        "model": session.model.state_dict(),
    }
