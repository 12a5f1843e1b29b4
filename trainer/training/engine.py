"""Training from the first step to the summary: the only module that knows the order of things."""

from __future__ import annotations

import math
import os
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch

from cloudrun.errors import CloudrunError
from cloudrun.recipe.progressive import size_at, work_left, work_of_epoch
from cloudrun.recipe.train_config import TrainConfig
from trainer.autotune.tuning import takes_long, tune
from trainer.data.loader import mix
from trainer.distributed.ranks import ALONE, Ranks
from trainer.distributed.stop import StopFlag
from trainer.errors import STOPPED_EARLY, StoppedEarly, TrainerError
from trainer.model.optim import lr_at, set_lr
from trainer.model.targets import naming_of
from trainer.outputs.diagnosis import closing_lines, new_findings
from trainer.outputs.metrics import MetricsLog
from trainer.outputs.progress import Progress, duration
from trainer.session.epoch_stats import FirstBadStep, LossNotFinite
from trainer.session.scores import evaluate
from trainer.session.state import Best, Position, Run, load_into, open_run, save, save_best, saved_in
from trainer.session.step import train_step
from trainer.training.summary import finish_run

# After a loss that is not finite.
_LOWER_LR = 0.1


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

    Raises StoppedEarly after a signal, with a complete checkpoint in `out`; one that comes while a GPU's speed is
    measured or the model is compiled ends the process so. Raises CloudrunError where the data, the config or the loss
    ends the run.
    """
    started_at = time.monotonic()
    run = open_run(config, data=data, labels=labels, out=out, progress=progress, ranks=ranks)
    run.runs_after = runs_after
    try:
        return _train(run, stop=stop, progress=progress, started_at=started_at)
    except StoppedEarly:
        raise
    except CloudrunError:
        run.session.close()
        raise
    finally:
        run.writer.drain()
        run.session.stop_loading()


def _train(run: Run, *, stop: StopFlag, progress: Progress, started_at: float) -> dict[str, Any]:
    session, config = run.session, run.session.config
    if run.position.epoch <= config.epochs:
        _tune(run, stop=stop, progress=progress)
    try:
        while run.position.epoch <= config.epochs:
            try:
                _train_epoch(run, stop=stop, progress=progress, started_at=started_at)
                _validate(run, stop=stop, progress=progress)
            except LossNotFinite as err:
                _go_back(run, err, progress=progress)
            else:
                save(run)
    except StoppedEarly as stopped:
        if run.bad.is_any():
            raise StoppedEarly(
                f"{stopped.message}; the loss was not finite by then, and {run.last_path} is from before that",
                hint=stopped.hint,
            ) from None
        save(run)
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


def _tune(run: Run, *, stop: StopFlag, progress: Progress) -> None:
    """What is complete by then stays as it is when a stop comes, and where nothing is, it is made first."""
    session, position = run.session, run.position
    is_long = takes_long(session)

    def end(signal_name: str) -> None:
        try:
            run.writer.wait()
            _finish(run, stop=None, progress=progress)
        except Exception:  # noqa: BLE001 - met again, and said, where `tune` comes to its next part
            return
        with suppress(OSError):
            progress.say(f"stopped by {signal_name} before the next step; {run.last_path} is complete")
        os._exit(STOPPED_EARLY)

    if is_long and not session.ranks.from_main(run.last_path.exists):
        save(run)
        if session.ranks.world > 1:
            run.writer.wait()  # they may be killed while they compile
    try:
        with stop.at_once(end) if is_long else nullcontext():
            tune(session, epoch=position.epoch, step=position.step, stop=stop, say=progress.say, beat=progress.beat)
    except StoppedEarly as stopped:
        run.writer.wait()
        _finish(run, stop=None, progress=progress)
        raise StoppedEarly(
            f"{stopped.message} before the next step; {run.last_path} is complete", hint=stopped.hint
        ) from None
    run.writer.wait()  # the loader's processes are forked next: not while another thread holds locks


def _go_back(run: Run, err: LossNotFinite, *, progress: Progress) -> None:
    """To the last checkpoint, or to the beginning where there is none, once, with a lower rate. Else raise `err`."""
    if run.lr_factor < 1:
        raise TrainerError(
            f"{err.message}; {_LOWER_LR:g} of the learning rate had already been tried", hint=err.hint
        ) from None
    run.writer.wait()
    session = run.session
    saved = session.ranks.from_main(lambda: saved_in(run.last_path))
    if saved is not None:
        load_into(run, saved)
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
                save(run)
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
            save_best(run)
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
