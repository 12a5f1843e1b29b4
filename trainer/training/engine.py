"""Train from the first step to the summary: the only module that knows the order of things."""

from __future__ import annotations

import math
import os
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch

from cloudrun.errors import CloudrunError
from cloudrun.imagedata.dataset import Reading
from cloudrun.recipe.progressive import is_plain, size_at, work_left, work_of_epoch
from cloudrun.recipe.train_config import TrainConfig
from trainer.autotune.tuning import takes_long, tune
from trainer.data.loader import mix
from trainer.distributed.ranks import ALONE, Ranks
from trainer.distributed.stop import StopFlag
from trainer.errors import STOPPED_EARLY, StoppedEarly, TrainerError
from trainer.model.optim import lr_at, set_lr
from trainer.outputs.diagnosis import closing_lines, new_findings
from trainer.outputs.metrics import MetricsLog
from trainer.outputs.progress import Progress, duration
from trainer.session.autotune_result import AutotuneResult
from trainer.session.epoch_stats import FirstBadStep, LossNotFinite, raise_if_scale_is_lost
from trainer.session.epoch_weights import EpochWeights
from trainer.session.idle import IdleTime, idle_time_of
from trainer.session.scores import Rating, evaluate
from trainer.session.seen import write_seen_images
from trainer.session.state import (
    Best,
    Position,
    TrainState,
    is_save_due_between_epochs,
    keep_best,
    load_into,
    open_state,
    save,
    saved_in,
    write_best,
)
from trainer.session.step import train_step
from trainer.trackers.processes import tracked
from trainer.training.final_weights import choose_weights
from trainer.training.planning import hours_of
from trainer.training.run_length import choose_epochs, fitting_into_hours
from trainer.training.summary import finish_run, finish_stopped_run

# Share of the learning rate after a loss that was not finite.
_LOWER_LR = 0.1


def train(  # noqa: PLR0913 - the arguments of a run, each by its name
    config: TrainConfig,
    *,
    data: Path,
    labels: Path | Reading | None = None,
    out: Path,
    stop: StopFlag,
    progress: Progress,
    ranks: Ranks = ALONE,
    runs_after: int = 0,
    known: AutotuneResult | None = None,
    hours_left: float | None = None,
) -> dict[str, Any]:
    """Train from the checkpoint in `out`, or from the start where there is none; return the content of summary.json.

    `labels`: a CSV file; None: class folders in `data`. `ranks`: joined; only the main process writes. `runs_after`:
    equally long runs still to come (folds), for the time left. `known`: what an earlier one of them has measured.
    `hours_left`: of the job's budget, which `epochs: auto` is fitted to.

    Raises StoppedEarly after a signal, with a complete checkpoint in `out`; a signal that comes while a GPU is measured
    or the model is compiled ends the process. Raises CloudrunError where the data, the config or the loss ends the run.
    """
    started_at = time.monotonic()
    hours_of(config, hours_left=hours_left, spent_s=0.0)
    state = open_state(config, data=data, labels=labels, out=out, progress=progress, ranks=ranks)
    hours = hours_of(config, hours_left=hours_left, spent_s=state.spent_s())
    state.setup.config = state.setup.config.model_copy(update={"train_hours": hours})
    state.runs_after = runs_after
    if state.setup.autotune is None:
        state.setup.autotune = known
    try:
        with tracked(config, out=out, say=progress.say, is_main=ranks.is_main):
            return _train(state, stop=stop, progress=progress, started_at=started_at)
    except StoppedEarly:
        raise
    except CloudrunError:
        state.setup.close()
        raise
    finally:
        with suppress(TrainerError, RuntimeError):  # the run ends with an error of its own, perhaps of the GPU
            write_best(state)
        state.writer.drain()
        state.setup.stop_loading()


def _train(state: TrainState, *, stop: StopFlag, progress: Progress, started_at: float) -> dict[str, Any]:
    setup = state.setup
    if state.position.epoch <= setup.config.epochs:
        _tune(state, stop=stop, progress=progress)
    try:
        while state.position.epoch <= setup.config.epochs:
            try:
                _train_epoch(state, stop=stop, progress=progress, started_at=started_at)
                _validate(state, stop=stop, progress=progress)
            except LossNotFinite as err:
                _go_back(state, err, progress=progress)
            else:
                if is_save_due_between_epochs(state):
                    save(state)
    except StoppedEarly as stopped:
        if state.first_bad_step.is_any():
            raise StoppedEarly(
                f"{stopped.message}; the loss was not finite by then, and {state.last_path} is from before that",
                hint=stopped.hint,
            ) from None
        save(state)
        state.writer.wait()
        finish_stopped_run(state)
        epoch, step = state.position.epoch, state.position.step
        raise StoppedEarly(
            f"{stopped.message} in epoch {epoch}/{setup.config.epochs} after step {step}/{setup.steps_per_epoch}; "
            f"{state.last_path} is complete",
            hint=stopped.hint,
        ) from None
    state.writer.wait()
    choose_weights(state, stop=stop, progress=progress)
    summary = finish_run(state, stop=stop, on_batch=progress.heartbeat)
    setup.close()
    score = f", test accuracy {summary['test_accuracy']:.4f}" if summary["test_accuracy"] is not None else ""
    f1 = "" if state.best.macro_f1 is None else f", macro F1 {state.best.macro_f1:.4f}"
    for line in closing_lines(state.findings):
        progress.say(line)
    skipped = setup.unreadable_names()
    if skipped:
        progress.say(f"skipped: {len(skipped)} image(s) that could not be read; summary.json names them")
    progress.say(f"done: best epoch {state.best.epoch}, val accuracy {state.best.accuracy:.4f}{f1}{score}")
    return summary


def _tune(state: TrainState, *, stop: StopFlag, progress: Progress) -> None:
    """Measure. Saves a checkpoint first if there is none, so that a stop meanwhile loses nothing."""
    setup, position = state.setup, state.position
    is_long = takes_long(setup)

    def end(signal_name: str) -> None:
        try:
            state.writer.wait()
            finish_stopped_run(state)
        except Exception:  # noqa: BLE001 - raised again, and reported, at the next part of `tune`
            return
        with suppress(OSError):
            progress.say(f"stopped by {signal_name} before the next step; {state.last_path} is complete")
        os._exit(STOPPED_EARLY)

    if is_long and not setup.ranks.from_main(state.last_path.exists):
        save(state)
        if setup.ranks.world > 1:
            state.writer.wait()  # the processes may be killed while they compile
    try:
        with stop.at_once(end) if is_long else nullcontext():
            tune(
                setup,
                epoch=position.epoch,
                step=position.step,
                runs_after=state.runs_after,
                stop=stop,
                say=progress.say,
                heartbeat=progress.heartbeat,
            )
    except StoppedEarly as stopped:
        state.writer.wait()
        finish_stopped_run(state)
        raise StoppedEarly(
            f"{stopped.message} before the next step; {state.last_path} is complete", hint=stopped.hint
        ) from None
    state.writer.wait()  # loader processes are forked next, and must not be while another thread holds locks


def _go_back(state: TrainState, err: LossNotFinite, *, progress: Progress) -> None:
    """Return to the last checkpoint, or to the start where there is none, once, with a lower rate.

    Raises `err` again where the rate was lowered before.
    """
    if state.lr_factor < 1:
        raise TrainerError(
            f"{err.message}; {_LOWER_LR:g} of the learning rate had already been tried", hint=err.hint
        ) from None
    state.writer.wait()
    setup = state.setup
    saved = setup.ranks.from_main(lambda: saved_in(state.last_path))
    if saved is not None:
        load_into(state, saved)
    else:
        setup.reset_weights()
        state.position, state.epoch_stats, state.best = Position(), setup.new_epoch_stats(), Best()
        state.findings, state.unsaved_best = [], None
        state.epoch_weights = EpochWeights(state.epoch_weights.folder)
        state.metrics = MetricsLog(state.metrics_path)
    state.lr_factor = _LOWER_LR
    state.first_bad_step = FirstBadStep(setup.device.torch_device)
    state.saved_at = float("-inf")  # the lower rate is kept as soon as a step was good
    progress.say(
        f"warning: {err.message}; back to epoch {state.position.epoch}, step {state.position.step}, "
        f"continuing with {_LOWER_LR:g} of the learning rate"
    )


def _train_epoch(state: TrainState, *, stop: StopFlag, progress: Progress, started_at: float) -> None:
    """Take the steps of the epoch that are not done yet."""
    setup, config = state.setup, state.setup.config
    if state.position.step >= setup.steps_per_epoch:
        return
    setup.model.train()
    setup.enter_epoch(state.position.epoch)
    setup.train_size = size_at(state.position.epoch, config)
    setup.is_plain = is_plain(state.position.epoch, config)
    with setup.device.algorithms_by_rule(is_on=setup.train_size < config.image_size):
        _take_steps(state, stop=stop, progress=progress, started_at=started_at)


def _take_steps(state: TrainState, *, stop: StopFlag, progress: Progress, started_at: float) -> None:
    setup, config, position = state.setup, state.setup.config, state.position
    ranks, sizes, work = setup.ranks, setup.train_loader.sizes, work_of_epoch(position.epoch, config)
    stop.raise_if_set()
    idle, counted_to = idle_time_of(setup.device), time.monotonic()
    for batch in setup.train_loader.epoch(position.epoch, start=position.step, is_plain=setup.is_plain):
        idle.batch_came()
        total_step = (position.epoch - 1) * setup.steps_per_epoch + position.step
        set_lr(setup.optimizer, state.lr_factor * lr_at(total_step, setup.schedule))
        # Dropout is a function of step and process, so that a resumed run repeats it.
        torch.manual_seed(mix(config.seed, total_step, *([ranks.rank] if ranks.rank else [])))
        images = sizes[position.step]
        if total_step == 0 and ranks.is_main:
            write_seen_images(state.out / "augmented.jsonl", setup, batch, images=images)
        result = train_step(setup, batch, say=progress.say, images=images)
        if setup.ema:
            setup.ema.update()
        state.first_bad_step.note(total_step + 1, result)
        state.epoch_stats.add(result, images=images)
        idle.step_ended()
        position.step += 1
        if not state.has_stepped:
            progress.say(f"first step after {time.monotonic() - started_at:.1f} s")
            state.has_stepped = True
        is_save_due = time.monotonic() - state.saved_at >= config.checkpoint_minutes * 60
        must_show, must_save = ranks.decide(progress.is_due(), is_save_due)  # the clocks of processes differ
        if must_show or must_save:
            _wait_for_device(state, idle)
        now = time.monotonic()
        state.count_step(now - counted_to, images=images, work=work)
        counted_to = now
        if must_show:
            _show(state, progress)
        if position.step < setup.steps_per_epoch:
            stop.raise_if_set()
            if must_save:
                save(state)
                idle.forget_last_step()
                counted_to = time.monotonic()
    _wait_for_device(state, idle)
    state.count_rest(time.monotonic() - counted_to, work=work)


def _wait_for_device(state: TrainState, idle: IdleTime) -> None:
    """Wait until all steps are done, so that their seconds can be counted. Raises LossNotFinite."""
    setup, position = state.setup, state.position
    state.first_bad_step.raise_if_any()
    raise_if_scale_is_lost(setup.scaler, (position.epoch - 1) * setup.steps_per_epoch + position.step)
    state.epoch_stats.waited_s += idle.read_s()


def _validate(state: TrainState, *, stop: StopFlag, progress: Progress) -> None:
    """Write the two rows of the epoch, keep the best model, and go to the next epoch."""
    setup, position = state.setup, state.position
    loader = setup.val_loader()
    if not setup.has_validated:
        state.writer.wait()  # loader processes are forked next, and must not be while another thread holds locks
    began = time.monotonic()
    with setup.with_averaged_weights():
        scores = evaluate(
            setup.model,
            loader,
            setup.device,
            targets=setup.targets,
            stop=stop,
            on_batch=progress.heartbeat,
            ranks=setup.ranks,
        )
    setup.has_validated = True
    setup.exchange_unreadable()
    rating = scores.rate(metric=setup.metric)
    state.timing.add_evaluation(time.monotonic() - began, images=len(scores.labels))
    val_images_per_s = len(scores.labels) / (time.monotonic() - began)
    if not math.isfinite(scores.loss):
        raise LossNotFinite(position.epoch * setup.steps_per_epoch)
    is_best = state.best.is_beaten_by(rating, scores.loss, setup.metric)
    if is_best:
        state.best = Best(
            position.epoch, rating.accuracy, scores.loss, rating.macro_f1, rating.thresholds, rating.metric
        )
    with setup.with_averaged_weights():
        if is_best:
            keep_best(state, scores)
        state.epoch_weights.add(
            setup.config, position.epoch, setup.model.state_dict() if setup.ranks.is_main else None,
            metric=setup.metric, value=rating.metric, loss=scores.loss,
        )  # fmt: skip
    _report_epoch(state, rating, scores.loss, is_best=is_best, val_images_per_s=val_images_per_s, progress=progress)
    state.position, state.epoch_stats = Position(position.epoch + 1, 0), setup.new_epoch_stats()
    choose_epochs(state, done=position.epoch, say=progress.say)


def _report_epoch(  # noqa: PLR0913 - the arguments of a run, each by its name
    state: TrainState, rating: Rating, val_loss: float, *, is_best: bool, val_images_per_s: float, progress: Progress
) -> None:
    """Write the rows of metrics.jsonl and progress.json; print the epoch and what is newly found wrong."""
    setup, position, stats = state.setup, state.position, state.epoch_stats
    step = position.epoch * setup.steps_per_epoch
    lr = state.lr_factor * lr_at(step - 1, setup.schedule)
    train_loss, train_accuracy, images_per_s = stats.loss(), stats.accuracy(), stats.images_per_s()
    state.metrics.append(
        "train", epoch=position.epoch, step=step, loss=train_loss, accuracy=train_accuracy, lr=lr,
        images_per_s=images_per_s, wait_share=stats.wait_share(),
    )  # fmt: skip
    state.metrics.append(
        "val", epoch=position.epoch, step=step, loss=val_loss, accuracy=rating.accuracy, lr=lr,
        images_per_s=val_images_per_s, macro_f1=rating.macro_f1, metric=_own_metric(state, rating),
    )  # fmt: skip
    eta_s = _seconds_left(state)
    progress.say(
        f"epoch {position.epoch}/{setup.config.epochs}: train loss {train_loss:.4f}, accuracy "
        f"{train_accuracy:.4f}; val loss {val_loss:.4f}, accuracy {rating.accuracy:.4f}"
        f"{'' if rating.macro_f1 is None else f', macro F1 {rating.macro_f1:.4f}'}{_metric_text(state, rating)}"
        f"{' (best)' if is_best else ''}; lr {lr:.2e}, {images_per_s:.0f} images/s, {duration(eta_s)} left"
    )
    for finding in new_findings(state.metrics.rows(), setup.facts(), known=state.findings):
        state.findings.append(finding)
        for line in finding.lines():
            progress.say(line)
    progress.end_epoch(
        epoch=position.epoch,
        epochs=setup.config.epochs,
        steps=setup.steps_per_epoch,
        loss=train_loss,
        images_per_s=images_per_s,
        eta_s=eta_s,
        timing=_timing(state, epoch=position.epoch + 1, step=0),
    )


def _own_metric(state: TrainState, rating: Rating) -> tuple[str, float] | None:
    """Return name and value of the competition's metric, where it is not among the figures of every run."""
    name = state.setup.metric.name
    is_shown = name == "accuracy" or (name == "macro_f1" and rating.macro_f1 is not None)
    return None if is_shown or rating.metric is None else (name, rating.metric)


def _metric_text(state: TrainState, rating: Rating) -> str:
    own = _own_metric(state, rating)
    return "" if own is None else f", {own[0].replace('_', ' ')} {own[1]:.4f}"


def _show(state: TrainState, progress: Progress) -> None:
    setup = state.setup
    progress.show(
        epoch=state.position.epoch,
        epochs=setup.config.epochs,
        step=state.position.step,
        steps=setup.steps_per_epoch,
        loss=state.epoch_stats.loss(),
        images_per_s=state.epoch_stats.images_per_s(),
        eta_s=_seconds_left(state),
        timing=_timing(state, epoch=state.position.epoch, step=state.position.step),
    )


def _timing(state: TrainState, *, epoch: int, step: int) -> dict[str, float | bool]:
    """Return the timing of what is left after `step` steps of `epoch`."""
    setup, after = state.setup, state.runs_after
    config = setup.config
    if config.train_hours is not None and state.timing.timed_steps:  # what will not fit, is not left
        config = config.model_copy(
            update={"epochs": max(epoch, fitting_into_hours(state, config, done=max(0, epoch - 1)))}
        )
    return state.timing.left(
        epochs=config.epochs - epoch + 1 + after * config.epochs,
        steps=_steps_left(state, epoch=epoch, step=step, config=config),
        batch_size=setup.batch_size,
        val_images=len(setup.val_files),
        images_at_end=setup.images_at_end() * (1 + after),
    )


def _seconds_left(state: TrainState) -> float:
    """Estimate from the speed so far; validation counts as training that is three times as fast."""
    setup = state.setup
    if not state.trained_work:
        return 0.0
    train_count, val_count = len(setup.train_files), len(setup.val_files)
    epoch, step, steps = state.position.epoch, state.position.step, setup.steps_per_epoch
    train_left = _steps_left(state, epoch=epoch, step=step) / steps
    val_left = setup.config.epochs * (1 + state.runs_after) - epoch + 1 - step / steps
    return (train_left * train_count + val_left * val_count / 3) * state.trained_s / state.trained_work


def _steps_left(state: TrainState, *, epoch: int, step: int, config: TrainConfig | None = None) -> float:
    """Count the steps that are left as steps at full image size. `config`: None: the run's."""
    steps, config = state.setup.steps_per_epoch, config or state.setup.config
    later = state.runs_after * work_left(epoch=1, step=0, steps_per_epoch=steps, config=config)
    return later + work_left(epoch=epoch, step=step, steps_per_epoch=steps, config=config)
