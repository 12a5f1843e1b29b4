"""Choose the weights of best.pt after the last epoch: those of the best epoch, or an average of several epochs.

An average is chosen where the metric on the validation images does not fall.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from cloudrun.recipe.evaluations import refreshed_images
from cloudrun.recipe.progressive import evaluation_size, size_at
from trainer.distributed.stop import StopFlag
from trainer.model.weight_average import WeightAverage
from trainer.outputs import checkpoint
from trainer.outputs.progress import Progress
from trainer.outputs.writer import snapshot
from trainer.session.norms import refresh_norms
from trainer.session.scores import Rating, Scores, evaluate
from trainer.session.state import TrainState, keep_best, write_best

OnBatch = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Choice:
    """Where the weights of best.pt come from: `epoch` (the best one), `swa` or `soup`, and of which `epochs`.

    `metric_before`: of the best epoch; `metric_after`: of what was chosen; both on the validation images.
    """

    source: str
    epochs: tuple[int, ...]
    metric_before: float | None
    metric_after: float | None

    def as_plain(self) -> dict[str, Any]:
        return {**asdict(self), "epochs": list(self.epochs)}


@dataclass(frozen=True, slots=True)
class _Candidate:
    source: str
    epochs: tuple[int, ...]
    rating: Rating
    scores: Scores
    weights: dict[str, Tensor] | None  # None but in the main process


def choose_weights(state: TrainState, *, stop: StopFlag, progress: Progress) -> None:
    """Try the averages that the config asks for, and write best.pt anew, where one of them is chosen.

    `state.best` becomes that of what was chosen, `state.choice` says what it was. A choice that was made before the
    process was killed is found in best.pt again. Raises StoppedEarly between two batches.
    """
    setup = state.setup
    if not (setup.config.swa_epochs or setup.config.soup) or not state.best.epoch:
        return
    done = state.position.epoch - 1
    before = setup.ranks.from_main(lambda: checkpoint.load(state.best_path).get("choice"))
    if before is not None and before["after_epoch"] == done:
        state.choice = before["choice"]
        return
    found = _Choosing(state, stop, progress)
    candidates = [one for one in (found.swa(), found.soup()) if one is not None]
    best = max(candidates, key=lambda one: (setup.metric.gain(one.rating.metric), -one.scores.loss), default=None)
    value = state.best.metric
    if best is None or not found.is_as_good(best, value):
        choice = Choice("epoch", (state.best.epoch,), value, value)
    else:
        choice = Choice(best.source, best.epochs, value, best.rating.metric)
    progress.say(f"weights: {_text(choice, state)}")
    state.choice = choice.as_plain()
    _write(state, best if choice.source != "epoch" else None, done)
    if setup.ranks.is_main:
        state.epoch_weights.remove_files()


def _write(state: TrainState, chosen: _Candidate | None, done: int) -> None:
    """Write best.pt with the choice."""
    setup = state.setup
    note = {"after_epoch": done, "choice": state.choice}
    if chosen is not None:
        rating = chosen.rating
        state.best = replace(
            state.best, accuracy=rating.accuracy, loss=chosen.scores.loss, macro_f1=rating.macro_f1,
            thresholds=rating.thresholds, metric=rating.metric,
        )  # fmt: skip
    if not setup.ranks.is_main:
        return
    if chosen is None:
        state.writer.save({**checkpoint.load(state.best_path), "choice": note}, state.best_path)
    else:
        assert chosen.weights is not None
        setup.model.load_state_dict(chosen.weights)
        keep_best(state, chosen.scores)
        assert state.unsaved_best is not None
        state.unsaved_best |= {"epoch": state.best.epoch, "choice": note}
        write_best(state)
    state.writer.wait()


@dataclass(frozen=True, slots=True)
class _Choosing:
    state: TrainState
    stop: StopFlag
    progress: Progress

    def is_as_good(self, candidate: _Candidate, value: float | None) -> bool:
        """Return whether the metric does not fall below `value`."""
        gain = self.state.setup.metric.gain
        return math.isfinite(candidate.scores.loss) and gain(candidate.rating.metric) >= gain(value)

    def swa(self) -> _Candidate | None:
        """Return the average of the last epochs; None where it has fewer than two."""
        average = self.state.epoch_weights.swa
        return self._tried("swa", average) if len(average.epochs) > 1 else None

    def soup(self) -> _Candidate | None:
        """Return the greedy soup: the best epoch, and each next one with which the metric does not fall.

        None where no epoch joins the best one. Source: Wortsman et al. 2022, arXiv:2203.05482, recipe 1.
        """
        state = self.state
        found: _Candidate | None = None
        average, value = WeightAverage(), None
        for place, one in enumerate(state.epoch_weights.best_first(state.setup.metric)):
            weights = state.epoch_weights.weights_of(one) if state.setup.ranks.is_main else None
            trial = average.plus(one.epoch, weights)
            if place == 0:
                average, value = trial, one.metric
                continue
            tried = self._tried("soup", trial)
            if self.is_as_good(tried, value):
                found, average, value = tried, trial, tried.rating.metric
        return found

    def _tried(self, source: str, average: WeightAverage) -> _Candidate:
        """Return the average with batch norms of its own, and how good it is."""
        state, setup = self.state, self.state.setup
        own = average.weights or {}  # only the main process has them, and sends them
        setup.model.load_state_dict(setup.ranks.from_main(lambda: own))
        began = time.monotonic()
        refresh_norms(setup, stop=self.stop, on_batch=self.progress.heartbeat)
        scores = evaluate(
            setup.model, setup.val_loader(), setup.device, targets=setup.targets, stop=self.stop,
            on_batch=self.progress.heartbeat, ranks=setup.ranks,
        )  # fmt: skip
        setup.exchange_unreadable()
        pixels = (size_at(setup.config.epochs, setup.config) / evaluation_size(setup.config)) ** 2
        refreshed = refreshed_images(len(setup.train_files)) * pixels
        state.timing.add_evaluation(time.monotonic() - began, images=len(scores.labels) + refreshed)
        weights = snapshot(setup.model.state_dict()) if setup.ranks.is_main else None
        return _Candidate(source, average.epochs, scores.rate(metric=setup.metric), scores, weights)


def _text(choice: Choice, state: TrainState) -> str:
    name = f"val {state.setup.metric.name.replace('_', ' ')}"
    before, after = (
        "undefined" if value is None else f"{value:.4f}" for value in (choice.metric_before, choice.metric_after)
    )
    epochs = ", ".join(map(str, choice.epochs))
    if choice.source == "epoch":
        return f"those of epoch {epochs}, {name} {before}: no average is as good"
    kind = {"swa": "the average", "soup": "a greedy soup"}[choice.source]
    return f"{kind} of epochs {epochs}, {name} {after} (best epoch {state.best.epoch}: {before})"
