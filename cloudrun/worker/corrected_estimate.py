"""Estimate the cost of the whole run from the steps that were timed on this very machine.

`correct` and `breaks_budget` are pure. `Overseer` puts the corrected estimate into the log and the heartbeat. After the
first steps, and again after the first evaluation, it decides whether a run that will not fit its budget goes on: later
most of the money is spent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cloudrun.protocol.messages import CorrectedEstimate, JobProgress, Question, Timing
from cloudrun.protocol.order import Order
from cloudrun.protocol.outputs import PROGRESS
from cloudrun.protocol.run_folder import RunFolder
from cloudrun.protocol.timing import QUESTION_WAIT_S
from cloudrun.protocol.words import YES
from cloudrun.worker.policy import time_text

ENOUGH_STEPS = 20
# A corrected estimate breaks a budget that it exceeds by more than this share of the budget.
UNCERTAINTY = 0.05
_LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Corrected:
    """The corrected estimate of the whole run, from its first billed second to the end of the bill."""

    total_s: float
    total_usd: float
    timed_steps: int
    is_enough: bool  # enough steps have been timed to rely on
    is_whole: bool  # an evaluation has been timed, too: the estimate gets no better than this

    @property
    def rests_on(self) -> str:
        """What the estimate is made from, in words."""
        return f"{self.timed_steps} timed steps on this machine" + (" and its evaluations" if self.is_whole else "")


def correct(timing: Timing | None, order: Order, billed_s: float) -> Corrected | None:
    """Return the corrected estimate from the trainer's `timing` (progress.json); None where nothing has been timed."""
    if timing is None:
        return None
    steps = timing.timed_steps
    total_s = billed_s + timing.steps_left * timing.timed_s / steps + timing.evaluation_left_s + order.after_s
    return Corrected(
        total_s=total_s,
        total_usd=order.spent_by(total_s),
        timed_steps=steps,
        is_enough=steps >= ENOUGH_STEPS or timing.evaluation_is_measured or steps >= timing.steps_per_epoch,
        is_whole=timing.evaluation_is_measured,
    )


def breaks_budget(corrected: Corrected, order: Order) -> str | None:
    """Return `corrected estimate $7.10 is over the cap of $5.00` or the like; None where the run fits, or may fit."""
    fits_if_below = 1 + UNCERTAINTY
    if corrected.total_usd > order.max_cost_usd * fits_if_below:
        return f"corrected estimate ${corrected.total_usd:.2f} is over the cap of ${order.max_cost_usd:.2f}"
    hours = corrected.total_s / 3600
    if hours > order.max_hours * fits_if_below:
        return f"corrected estimate {hours:.4g} h is over the cap of {order.max_hours:g} h"
    return None


class Overseer:
    """Watches the trainer's timing for a run that breaks its budget; asks where somebody at a terminal may answer."""

    def __init__(
        self, run_dir: Path, order: Order, *, say: Callable[[str], None], publish: Callable[[CorrectedEstimate], None]
    ) -> None:
        """`say` takes lines for the log, `publish` the corrected estimate for the heartbeat."""
        files = RunFolder(run_dir)
        self._progress = files.out / PROGRESS
        self._question, self._answer = files.question, files.answer
        self._since = time.time() - 1.0  # file times are coarser than the clock
        self._order = order
        self._say = say
        self._publish = publish
        self._looked_at = 0.0
        self._asked_at: float | None = None
        self._too_much = ""
        self._said = 0  # 1: from the first steps, 2: with an evaluation
        self._goes_on = False

    def reason_to_stop(self, billed_s: float) -> str | None:
        """Return why to stop the run; None where it goes on, and while an answer is awaited. Call on every poll."""
        now = time.monotonic()
        if self._asked_at is not None:
            return self._reply(now - self._asked_at)
        if now - self._looked_at < _LOOK_EVERY_S:
            return None
        self._looked_at = now
        corrected = correct(self._timing(), self._order, billed_s)
        if corrected is None or not corrected.is_enough:
            return None
        self._publish(CorrectedEstimate(round(corrected.total_s, 1), round(corrected.total_usd, 4), corrected.rests_on))
        stage = 2 if corrected.is_whole else 1
        if stage <= self._said or self._goes_on:
            return None
        self._said = stage
        cost = f"${corrected.total_usd:.2f}, " if self._order.hourly_usd else ""
        self._say(f"corrected estimate: {cost}{time_text(corrected.total_s)} in all, from {corrected.rests_on}")
        self._too_much = breaks_budget(corrected, self._order) or ""
        if self._too_much and self._order.may_ask:
            self._ask(now)
            return None
        return self._too_much or None

    def _timing(self) -> Timing | None:
        """Return the trainer's timing; None where there is none, or only one that an earlier attempt left."""
        if not self._progress.exists() or self._progress.stat().st_mtime < self._since:
            return None
        progress = JobProgress.read(self._progress)
        return None if progress is None else progress.timing

    def _ask(self, now: float) -> None:
        self._asked_at = now
        self._say(f"{self._too_much}; asking whether to go on")
        Question(f"{self._too_much}; go on until the budget ends it?", QUESTION_WAIT_S).write(self._question)

    def _reply(self, waited_s: float) -> str | None:
        """Return why to stop where the answer is no, or has not come in time; else None. Training goes on meanwhile."""
        given = self._answer.read_bytes().strip() if self._answer.exists() else None
        if given is None and waited_s < QUESTION_WAIT_S:
            return None
        self._question.unlink(missing_ok=True)
        self._asked_at = None
        if given == YES:
            self._goes_on = True
            self._say("going on, as answered, until the budget ends it")
            return None
        return f"{self._too_much}; {'the answer was no' if given else 'nobody answered'}"
