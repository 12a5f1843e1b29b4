"""Training from the first step to the summary: the only module that knows the order of things."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainer import checkpoint
from trainer.checkpoint import State
from trainer.config import TrainConfig
from trainer.diagnosis import Finding, closing_lines, new_findings
from trainer.errors import StoppedEarly, TrainerError
from trainer.loader import mix
from trainer.metrics import MetricsLog
from trainer.optim import align_moments, lr_at, set_lr
from trainer.progress import Progress, duration
from trainer.progressive import size_at, work_left, work_of_epoch
from trainer.ranks import ALONE, Ranks
from trainer.scores import Rating, evaluate
from trainer.session import Session, Tally, open_session
from trainer.step import FirstBadStep, LossNotFinite, train_step
from trainer.stop import StopFlag
from trainer.summary import finish_run
from trainer.targets import naming_of
from trainer.timing import Timing
from trainer.tuned import Tuned
from trainer.tuning import tune
from trainer.writer import CheckpointWriter

# After a loss that is not finite.
_LOWER_LR = 0.1


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


def train(
    config: TrainConfig,
    *,
    data: Path,
    labels: Path | None = None,
    out: Path,
    stop: StopFlag,
    progress: Progress,
    ranks: Ranks = ALONE,
    runs_after: int = 0,
) -> dict[str, Any]:
    """Train from the checkpoint in `out`, or from scratch where there is none; the content of summary.json.

    `labels`: a CSV file; None: the folders of `data` say the classes. `ranks`: joined; only the main process writes.
    `runs_after`: as long as this one, for what is left in all.

    Raises StoppedEarly after a signal, with a complete checkpoint in `out`; TrainerError where the
    data, the config or the loss ends the run.
    """
    started_at = time.monotonic()
    run = _open_run(config, data=data, labels=labels, out=out, progress=progress, ranks=ranks)
    run.runs_after = runs_after
    try:
        return _train(run, stop=stop, progress=progress, started_at=started_at)
    except StoppedEarly:
        raise
    except TrainerError:
        run.session.close()
        raise
    finally:
        run.writer.drain()
        run.session.stop_loading()


def _train(run: Run, *, stop: StopFlag, progress: Progress, started_at: float) -> dict[str, Any]:
    session, config = run.session, run.session.config
    try:
        if run.position.epoch <= config.epochs:
            position = run.position
            tune(session, epoch=position.epoch, step=position.step, stop=stop, say=progress.say, beat=progress.beat)
        while run.position.epoch <= config.epochs:
            try:
                _train_epoch(run, stop=stop, progress=progress, started_at=started_at)
                _validate(run, stop=stop, progress=progress)
            except LossNotFinite as err:
                _go_back(run, err, progress=progress)
            else:
                _save(run)
    except StoppedEarly as stopped:
        if run.bad.is_any():
            raise StoppedEarly(
                f"{stopped.message}; the loss was not finite by then, and {run.last_path} is from before that",
                hint=stopped.hint,
            ) from None
        _save(run)
        run.writer.wait()
        _finish(run, stop=None, progress=progress)
        epoch, step = run.position.epoch, run.position.step
        raise StoppedEarly(
            f"{stopped.message} in epoch {epoch}/{config.epochs} after step {step}/{session.steps_per_epoch}; "
            f"{run.last_path} is complete",
            hint=stopped.hint,
        ) from None
    run.writer.wait()
    summary = _finish(run, stop=stop, progress=progress)
    session.close()
    score = f", test accuracy {summary['test_accuracy']:.4f}" if summary["test_accuracy"] is not None else ""
    f1 = "" if run.best.macro_f1 is None else f", macro F1 {run.best.macro_f1:.4f}"
    for line in closing_lines(run.findings):
        progress.say(line)
    skipped = session.unreadable_names()
    if skipped:
        progress.say(f"skipped: {len(skipped)} image(s) that could not be read; summary.json names them")
    progress.say(f"done: best epoch {run.best.epoch}, val accuracy {run.best.accuracy:.4f}{f1}{score}")
    return summary


def _go_back(run: Run, err: LossNotFinite, *, progress: Progress) -> None:
    """To the last checkpoint, or to the beginning where there is none, once, with a lower rate. Else raise `err`."""
    if run.lr_factor < 1:
        raise TrainerError(
            f"{err.message}; {_LOWER_LR:g} of the learning rate had already been tried", hint=err.hint
        ) from None
    run.writer.wait()
    session = run.session
    saved = session.ranks.from_main(lambda: _saved_in(run.last_path))
    if saved is not None:
        _load(run, saved)
    else:
        session.start_afresh()
        run.position, run.tally, run.best = Position(), session.new_tally(), Best()
        run.findings = []
        run.metrics = MetricsLog(run.metrics_path)
    run.lr_factor = _LOWER_LR
    run.bad = FirstBadStep(session.device.torch_device)
    progress.say(
        f"warning: {err.message}; back to epoch {run.position.epoch}, step {run.position.step}, "
        f"and on with {_LOWER_LR:g} of the learning rate"
    )


def _saved_in(path: Path) -> State | None:
    return checkpoint.load(path) if path.exists() else None


def _open_run(
    config: TrainConfig, *, data: Path, labels: Path | None, out: Path, progress: Progress, ranks: Ranks
) -> Run:
    last_path = out / "checkpoints" / "last.pt"
    saved = ranks.from_main(lambda: _saved_in(last_path))
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
    _load(run, saved)
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


def _load(run: Run, saved: State) -> None:
    session = run.session
    session.model.load_state_dict(saved["model"])
    session.optimizer.load_state_dict(saved["optimizer"])
    align_moments(session.optimizer)
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


def _save(run: Run) -> None:
    """The processes are equal after each step, so one of them knows all that there is to keep."""
    session, tally = run.session, run.tally
    run.saved_at = time.monotonic()
    if not session.ranks.is_main:
        return
    state: State = {
        "config": session.config.model_dump(mode="json"),
        "classes": list(session.dataset.classes),
        "naming": naming_of(session.targets, run.best.thresholds).as_plain(),
        "epoch": run.position.epoch,
        "step": run.position.step,
        "model": session.model.state_dict(),
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


def _train_epoch(run: Run, *, stop: StopFlag, progress: Progress, started_at: float) -> None:
    """The steps of the epoch that are not done yet."""
    session, config, position = run.session, run.session.config, run.position
    if position.step >= session.steps_per_epoch:
        return
    session.model.train()
    ranks, sizes = session.ranks, session.train_loader.sizes
    session.train_size = size_at(position.epoch, config)
    stop.raise_if_set()
    first_step = position.step
    step_started_at = time.monotonic()
    for batch in session.train_loader.epoch(position.epoch, start=position.step):
        if position.step > first_step:
            run.tally.waited_s += time.monotonic() - step_started_at
        total_step = (position.epoch - 1) * session.steps_per_epoch + position.step
        lr = run.lr_factor * lr_at(total_step, session.schedule)
        set_lr(session.optimizer, lr)
        # Dropout is a function of the step, so that resuming repeats it, and in each process another one.
        torch.manual_seed(mix(config.seed, total_step, *([ranks.rank] if ranks.rank else [])))
        images = sizes[position.step]
        result = train_step(session, batch, say=progress.say, images=images)
        if session.ema:
            session.ema.update()
        run.bad.note(total_step + 1, result)
        run.tally.add(result, images=images)
        position.step += 1
        now = time.monotonic()
        if not run.has_stepped:
            progress.say(f"first step after {now - started_at:.1f} s")
            run.has_stepped = True
        run.tally.seconds += now - step_started_at
        run.trained_s += now - step_started_at
        run.trained_images += images
        run.timing.add_step(now - step_started_at, work=work_of_epoch(position.epoch, config))
        run.trained_work += images * work_of_epoch(position.epoch, config)
        is_save_due = now - run.saved_at >= config.checkpoint_minutes * 60
        must_show, must_save = ranks.decide(progress.is_due(), is_save_due)  # clocks differ
        if must_show:
            run.bad.raise_if_any()  # the loss is asked for here anyway
            _show(run, progress)
        if position.step < session.steps_per_epoch:
            stop.raise_if_set()
            if must_save:
                run.bad.raise_if_any()
                _save(run)
        step_started_at = time.monotonic()
    run.bad.raise_if_any()


def _validate(run: Run, *, stop: StopFlag, progress: Progress) -> None:
    """Write the epoch's two rows, keep the best model, and move on to the next epoch."""
    session, position, tally = run.session, run.position, run.tally
    run.writer.wait()  # the loader's processes are forked: not while another thread holds locks
    began = time.monotonic()
    with session.judged():
        scores = evaluate(
            session.model,
            session.val_loader(),
            session.device,
            targets=session.targets,
            stop=stop,
            on_batch=progress.beat,
            ranks=session.ranks,
        )
    session.share_unreadable()
    rating = scores.rate()
    run.timing.add_evaluation(time.monotonic() - began, images=len(scores.labels))
    val_images_per_s = len(scores.labels) / (time.monotonic() - began)
    step = position.epoch * session.steps_per_epoch
    if not math.isfinite(scores.loss):
        raise LossNotFinite(step)
    lr = run.lr_factor * lr_at(step - 1, session.schedule)
    train_loss, train_accuracy = tally.loss(), tally.accuracy()
    run.metrics.append(
        "train", epoch=position.epoch, step=step, loss=train_loss, accuracy=train_accuracy, lr=lr,
        images_per_s=tally.images_per_s(), wait_share=tally.wait_share(),
    )  # fmt: skip
    run.metrics.append(
        "val", epoch=position.epoch, step=step, loss=scores.loss, accuracy=rating.accuracy, lr=lr,
        images_per_s=val_images_per_s, macro_f1=rating.macro_f1,
    )  # fmt: skip
    is_best = run.best.is_beaten_by(rating, scores.loss)
    if is_best:
        run.best = Best(position.epoch, rating.accuracy, scores.loss, rating.macro_f1, rating.thresholds)
        with session.judged():
            _save_best(run)
    eta_s = _seconds_left(run)
    progress.say(
        f"epoch {position.epoch}/{session.config.epochs}: train loss {train_loss:.4f}, accuracy "
        f"{train_accuracy:.4f}; val loss {scores.loss:.4f}, accuracy {rating.accuracy:.4f}"
        f"{'' if rating.macro_f1 is None else f', macro F1 {rating.macro_f1:.4f}'}"
        f"{' (best)' if is_best else ''}; lr {lr:.2e}, {tally.images_per_s():.0f} images/s, {duration(eta_s)} left"
    )
    for found in new_findings(run.metrics.rows(), session.facts(), known=run.findings):
        run.findings.append(found)
        for line in found.lines():
            progress.say(line)
    progress.end_epoch(
        epoch=position.epoch,
        epochs=session.config.epochs,
        steps=session.steps_per_epoch,
        loss=train_loss,
        images_per_s=tally.images_per_s(),
        eta_s=eta_s,
        timing=_timing(run, epoch=position.epoch + 1, step=0),
    )
    run.position, run.tally = Position(position.epoch + 1, 0), session.new_tally()


def _save_best(run: Run) -> None:
    session = run.session
    if not session.ranks.is_main:
        return
    state: State = {
        "config": session.config.model_dump(mode="json"),
        "classes": list(session.dataset.classes),
        "naming": naming_of(session.targets, run.best.thresholds).as_plain(),
        "epoch": run.position.epoch,
        "step": run.position.step,
        "val_accuracy": run.best.accuracy,
        "val_loss": run.best.loss,
        "model": session.model.state_dict(),
    }
    run.writer.save(state, run.best_path)


def _show(run: Run, progress: Progress) -> None:
    session = run.session
    progress.show(
        epoch=run.position.epoch,
        epochs=session.config.epochs,
        step=run.position.step,
        steps=session.steps_per_epoch,
        loss=run.tally.loss(),
        images_per_s=run.tally.images_per_s(),
        eta_s=_seconds_left(run),
        timing=_timing(run, epoch=run.position.epoch, step=run.position.step),
    )


def _timing(run: Run, *, epoch: int, step: int) -> dict[str, float | bool]:
    """What is left after `step` steps of `epoch`."""
    session, after = run.session, run.runs_after
    epochs = session.config.epochs
    return run.timing.left(
        epochs=epochs - epoch + 1 + after * epochs,
        steps=_steps_left(run, epoch=epoch, step=step),
        batch_size=session.batch_size,
        val_images=len(session.val_files),
        test_images=len(session.dataset.splits.get("test", ())) * (1 + after),
    )


def _seconds_left(run: Run) -> float:
    """By the speed so far; validation counts as training that is three times as fast."""
    session = run.session
    if not run.trained_work:
        return 0.0
    train_count, val_count = len(session.train_files), len(session.val_files)
    epoch, step, steps = run.position.epoch, run.position.step, session.steps_per_epoch
    train_left = _steps_left(run, epoch=epoch, step=step) / steps
    val_left = session.config.epochs * (1 + run.runs_after) - epoch + 1 - step / steps
    return (train_left * train_count + val_left * val_count / 3) * run.trained_s / run.trained_work


def _steps_left(run: Run, *, epoch: int, step: int) -> float:
    """Counted as steps at full image size."""
    steps, config = run.session.steps_per_epoch, run.session.config
    later = run.runs_after * work_left(epoch=1, step=0, steps_per_epoch=steps, config=config)
    return later + work_left(epoch=epoch, step=step, steps_per_epoch=steps, config=config)


def _finish(run: Run, *, stop: StopFlag | None, progress: Progress) -> dict[str, Any]:
    """Score the best model on test and write the summary; without `stop` the run was stopped, and is not scored."""
    run.session.model.has_mirror = run.session.config.tta == "flip"
    return finish_run(
        run.session,
        out=run.out,
        best_path=run.best_path,
        best_epoch=run.best.epoch,
        best_accuracy=run.best.accuracy,
        best_macro_f1=run.best.macro_f1,
        naming=naming_of(run.session.targets, run.best.thresholds),
        train_seconds=run.trained_s,
        images_per_s=run.trained_images / run.trained_s if run.trained_s else 0.0,
        timing=run.timing,
        findings=run.findings,
        stop=stop,
        on_batch=progress.beat,
    )
