"""Keep what changes during a run, write it to checkpoints and restore it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloudrun.imagedata.dataset import Reading
from cloudrun.recipe.auto_epochs import are_auto
from cloudrun.recipe.inputs import inputs_from
from cloudrun.recipe.train_config import TrainConfig
from trainer.distributed.ranks import Ranks
from trainer.errors import TrainerError
from trainer.model.optim import align_moments, schedule_of
from trainer.model.targets import decision_rule
from trainer.outputs import checkpoint
from trainer.outputs.checkpoint import State
from trainer.outputs.diagnosis import Finding
from trainer.outputs.metrics import MetricsLog
from trainer.outputs.progress import Progress
from trainer.outputs.scoring import Metric
from trainer.outputs.timing import Timing
from trainer.outputs.writer import CheckpointWriter
from trainer.session.autotune_result import AutotuneResult
from trainer.session.build import build_setup
from trainer.session.epoch_stats import EpochStats, FirstBadStep
from trainer.session.epoch_weights import EpochWeights
from trainer.session.scores import Rating, Scores
from trainer.session.setup import TrainingSetup


@dataclass
class Position:
    """How far a run has come: `step` steps of `epoch` (from 1) are done."""

    epoch: int = 1
    step: int = 0


@dataclass
class Best:
    """The best epoch so far by the competition's `metric` on val, then by the lowest loss.

    Where an image may have several classes, at the `thresholds` that are best for val.
    """

    epoch: int = 0
    accuracy: float = -1.0
    loss: float = float("inf")
    macro_f1: float | None = None
    thresholds: list[float] | None = None
    metric: float | None = None

    def is_beaten_by(self, rating: Rating, loss: float, metric: Metric) -> bool:
        """Return whether a new epoch is better."""
        if not self.epoch:
            return True
        return (metric.gain(rating.metric), -loss) > (metric.gain(self.metric), -self.loss)


@dataclass
class TrainState:
    """Everything that changes during a run."""

    setup: TrainingSetup
    out: Path
    position: Position
    epoch_stats: EpochStats
    best: Best
    first_bad_step: FirstBadStep
    trained_s: float
    trained_images: int
    trained_work: float  # the same images, weighted by their pixels
    saved_at: float
    timing: Timing
    spent_before_s: float = 0.0  # by earlier processes of the run
    opened_at: float = field(default_factory=time.monotonic)
    # Of the config; the setup's config may have fewer: fitted to its hours, or for lack of patience.
    asked_epochs: int = 0
    chooses_epochs: bool = False  # `epochs: auto`, and no checkpoint has a number of epochs yet
    lr_factor: float = 1.0  # lowered once the loss was not finite
    writer: CheckpointWriter = field(default_factory=CheckpointWriter)
    has_stepped: bool = False  # in this process
    runs_after: int = 0  # equally long runs still to come (folds)
    findings: list[Finding] = field(default_factory=list)
    unsaved_best: State | None = None  # the content of best.pt that `save` writes, in the memory of the device
    choice: dict[str, Any] | None = None  # which weights best.pt has, where averages were tried
    metrics: MetricsLog = field(init=False)
    epoch_weights: EpochWeights = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = MetricsLog(self.metrics_path)
        self.epoch_weights = EpochWeights(self.best_path.parent)

    def spent_s(self) -> float:
        """Return the seconds of the run so far, over all its processes."""
        return self.spent_before_s + time.monotonic() - self.opened_at

    def end_after(self, epochs: int) -> None:
        """Have the run end after `epochs` epochs: sizes and learning rates follow."""
        setup = self.setup
        setup.config = setup.config.model_copy(update={"epochs": epochs})
        setup.schedule = schedule_of(setup.config, steps_per_epoch=setup.steps_per_epoch)

    def count_step(self, seconds: float, *, images: int, work: float) -> None:
        """Count the seconds of a step. `work`: its pixels as a share of those at full image size."""
        self.epoch_stats.seconds += seconds
        self.trained_s += seconds
        self.trained_images += images
        self.trained_work += images * work
        self.timing.add_step(seconds, work=work)

    def count_rest(self, seconds: float, *, work: float) -> None:
        """Count the seconds in which the device finished steps that were already counted."""
        self.epoch_stats.seconds += seconds
        self.trained_s += seconds
        self.timing.add_rest(seconds, work=work)

    @property
    def metrics_path(self) -> Path | None:
        return self.out / "metrics.jsonl" if self.setup.ranks.is_main else None

    @property
    def best_path(self) -> Path:
        return self.out / "checkpoints" / "best.pt"

    @property
    def last_path(self) -> Path:
        return self.out / "checkpoints" / "last.pt"


def saved_in(path: Path) -> State | None:
    """Return the checkpoint `path`, None where there is none."""
    return checkpoint.load(path) if path.exists() else None


def open_state(  # noqa: PLR0913 - a model, its images, and who hears of them
    config: TrainConfig, *, data: Path, labels: Path | Reading | None, out: Path, progress: Progress, ranks: Ranks
) -> TrainState:
    """Build the setup, and return the state of the checkpoint in `out`, or that of a new run.

    Raises TrainerError where the checkpoint and the data do not belong together.
    """
    last_path = out / "checkpoints" / "last.pt"
    saved = ranks.from_main(lambda: saved_in(last_path))
    holders = [rank for rank, exists in enumerate(ranks.gather(last_path.exists())) if exists]
    if saved is None and holders:
        raise TrainerError(
            f"process {holders[0]} has {last_path}, and the main process, on another machine, has not",
            hint="start each machine with the same `--node-rank` as before, or move the folder to the first machine",
        )
    if saved is not None:
        checkpoint.check_config(saved["config"], config, last_path)
    batch_size = saved["batch_size"] if saved else None
    inputs = inputs_from(saved.get("inputs"), backbones=len(config.backbones)) if saved else None
    setup = build_setup(config, data, labels=labels, batch_size=batch_size, ranks=ranks, inputs=inputs)
    for line in [*setup.describe(), *setup.unreadable.lines]:
        progress.say(line)
    setup.unreadable.say = progress.say
    if ranks.is_main:
        out.mkdir(parents=True, exist_ok=True)
    first_bad_step = FirstBadStep(setup.device.torch_device)
    now = time.monotonic()
    if saved is not None and saved["data_digest"] != setup.data_digest:
        raise TrainerError(
            f"the images that train and validate differ from those that {out} was trained on",
            hint="restore the data folder (and the file of groups, where there is one), or name another `--out` folder",
        )
    timing = Timing(steps_per_epoch=setup.steps_per_epoch, batch_size=setup.batch_size)
    state = TrainState(
        setup, out, Position(), setup.new_epoch_stats(), Best(), first_bad_step, 0.0, 0, 0.0, now, timing
    )
    state.asked_epochs, state.chooses_epochs = int(config.epochs), are_auto(config.epochs)
    if saved is None:
        return state
    load_into(state, saved)
    state.spent_before_s = saved.get("spent_s", state.trained_s)
    setup.autotune = AutotuneResult.from_plain(saved["tuned"]) if saved.get("tuned") else None
    newer = ranks.from_main(lambda: _best_in(state.best_path, newer_than=state.best.epoch))
    if newer is not None:
        state.best = newer
    if state.best.epoch and ranks.is_main and not state.best_path.exists():
        raise TrainerError(
            f"{state.best_path} is missing, and {state.last_path} needs it",
            hint=f"restore it, or remove {state.best_path.parent} to start again",
        )
    progress.say(f"resumed from {last_path}: epoch {state.position.epoch}, step {state.position.step} done")
    chosen = saved["config"]["epochs"]
    were = saved.get("asked_epochs", chosen)
    if were == config.epochs:
        if chosen not in (config.epochs, "auto"):
            state.end_after(chosen)
            state.chooses_epochs = False
    else:
        progress.say(
            f"epochs were {were} and are now {config.epochs}: the learning rate follows the new cosine from here"
        )
    return state


def _best_in(path: Path, *, newer_than: int) -> Best | None:
    """Return what best.pt says of itself, where it is newer than last.pt; None where there is none, or an older one.

    The process was killed after it had written best.pt, and before last.pt; or best.pt has averaged weights, which were
    chosen after last.pt.
    """
    saved = saved_in(path)
    if not saved or "best" not in saved:
        return None
    best = _best_from(saved["best"])
    return best if best.epoch > newer_than or "choice" in saved else None


def _best_from(plain: Mapping[str, Any]) -> Best:
    best = Best(**plain)
    if "metric" not in plain and best.epoch:  # written when accuracy, or macro F1, was all there was
        best.metric = best.accuracy if best.macro_f1 is None else best.macro_f1
    return best


def load_into(state: TrainState, saved: State) -> None:
    """Restore `state` from a checkpoint."""
    setup = state.setup
    setup.model.load_state_dict(saved["model"])
    setup.optimizer.load_state_dict(saved["optimizer"])
    align_moments(setup.optimizer)
    if saved["scaler"]:  # empty where the checkpoint is of bf16 or of a CPU
        setup.scaler.load_state_dict(saved["scaler"])
    if setup.ema:
        setup.ema.load_state_dict(saved["ema"])
    state.metrics = MetricsLog(state.metrics_path, saved["metrics"])
    state.position = Position(saved["epoch"], saved["step"])
    state.epoch_stats = setup.new_epoch_stats(**saved["tally"])
    state.best, state.unsaved_best = _best_from(saved["best"]), None
    state.epoch_weights = EpochWeights.from_plain(saved.get("epoch_weights"), state.best_path.parent, setup.ranks)
    state.trained_s, state.trained_images = saved["trained_s"], saved["trained_images"]
    state.trained_work = saved.get("trained_work", state.trained_images)
    state.lr_factor = saved["lr_factor"]
    state.findings = [Finding(**finding) for finding in saved.get("findings", ())]
    setup.unreadable.remember(setup.dataset.folder / name for name in saved.get("unreadable", ()))
    state.saved_at = time.monotonic()


def is_save_due_between_epochs(state: TrainState) -> bool:
    """Return whether last.pt is to be written after an epoch: not more often than is cheap. The same in all processes.

    An epoch may take a second, and a checkpoint of hundreds of megabytes several.
    """
    setup = state.setup
    if state.position.epoch > setup.config.epochs:
        return True
    pause_s = min(setup.config.checkpoint_minutes * 60, state.writer.pause_s())
    return setup.ranks.from_main(lambda: time.monotonic() - state.saved_at >= pause_s)


def save(state: TrainState) -> None:
    """Write last.pt, after the best model so far if that is not written yet.

    All processes are equal after each step, so that the main process has everything to keep.
    """
    setup, epoch_stats = state.setup, state.epoch_stats
    state.saved_at = time.monotonic()
    if not setup.ranks.is_main:
        return
    write_best(state)
    state.epoch_weights.write(state.writer)
    content: State = {
        **_what_is_trained(state),
        "optimizer": setup.optimizer.state_dict(),
        "scaler": setup.scaler.state_dict(),
        "batch_size": setup.batch_size,
        "tuned": setup.autotune.as_plain() if setup.autotune else None,
        "data_digest": setup.data_digest,
        "tally": epoch_stats.as_plain(),
        "best": vars(state.best),
        "metrics": state.metrics.text,
        "findings": [finding.as_plain() for finding in state.findings],
        "unreadable": setup.unreadable_names(),
        "trained_s": state.trained_s,
        "trained_images": state.trained_images,
        "trained_work": state.trained_work,
        "spent_s": state.spent_s(),
        "asked_epochs": state.asked_epochs,
        "lr_factor": state.lr_factor,
        "ema": setup.ema.state_dict() if setup.ema else None,
        "epoch_weights": state.epoch_weights.as_plain(),
    }
    state.writer.save(content, state.last_path)


def keep_best(state: TrainState, scores: Scores) -> None:
    """Keep the model as the best so far, on its device; `save` and `write_best` write it to best.pt.

    `scores`: of the validation images, which it keeps, too.
    """
    if not state.setup.ranks.is_main:
        return
    trained, names = _what_is_trained(state), state.setup.val_names()
    val = {"images": names, "logits": scores.logits, "labels": scores.labels}
    state.unsaved_best = {
        **trained,
        "model": {name: value.detach().clone() for name, value in trained["model"].items()},
        "val_accuracy": state.best.accuracy,
        "val_loss": state.best.loss,
        "best": dict(vars(state.best)),
        # An image that could be read this time, and not before, would shift the names.
        **({"val": val} if len(names) == len(scores.labels) else {}),
    }


def write_best(state: TrainState) -> None:
    """Write best.pt, where the best model so far is not written yet."""
    if state.unsaved_best is not None:
        state.writer.save(state.unsaved_best, state.best_path)
        state.unsaved_best = None


def _what_is_trained(state: TrainState) -> State:
    """Return what both checkpoints contain: all that prediction needs."""
    setup = state.setup
    return {
        "config": setup.config.model_dump(mode="json"),
        "classes": list(setup.dataset.classes),
        "inputs": setup.model.inputs.as_plain(),
        "naming": decision_rule(setup.targets, state.best.thresholds).as_plain(),
        "epoch": state.position.epoch,
        "step": state.position.step,
        "model": setup.model.state_dict(),
    }
