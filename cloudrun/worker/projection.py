"""What the whole run will cost, from the steps that were timed on this very machine.

`project` and `breaks_budget` are pure. `Overseer` puts the corrected estimate into the log and the heartbeat,
and decides once, early, whether a run that will not fit its budget goes on: later most of the money is spent.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudrun.untrusted import read_object
from cloudrun.worker.journal import replace_text
from cloudrun.worker.order import Order

ENOUGH_STEPS = 20
# A projection is believed to break a budget when it does so by more than this part of itself.
UNCERTAINTY = 0.05
# An answer that does not come is a No: nobody is there.
ANSWER_WAIT_S = 60.0
_LOOK_EVERY_S = 1.0
_MOST_STEPS, _LONGEST_S = 10**12, 1e9  # beyond these nobody has timed anything


@dataclass(frozen=True)
class Projection:
    """The whole run, from its first billed second to the end of the bill."""

    total_s: float
    total_usd: float
    timed_steps: int
    is_enough: bool  # steps have been timed to rely on
    is_whole: bool  # an evaluation has been timed, too: it gets no better than this

    @property
    def rests_on(self) -> str:
        return f"{self.timed_steps} timed steps on this machine" + (" and its evaluations" if self.is_whole else "")


def project(timing: dict[str, Any], order: Order, billed_s: float) -> Projection | None:
    """From the trainer's `timing` (progress.json); None where nothing has been timed."""
    try:
        steps, seconds = int(timing["timed_steps"]), float(timing["timed_s"])
        left, evaluation_s = int(timing["steps_left"]), float(timing["evaluation_left_s"])
        per_epoch, is_whole = int(timing["steps_per_epoch"]), bool(timing["evaluation_is_measured"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None  # a trainer of the user's own, which need not time anything
    if not (1 <= steps <= _MOST_STEPS and 0 <= left <= _MOST_STEPS):
        return None
    if not (0 <= seconds <= _LONGEST_S and 0 <= evaluation_s <= _LONGEST_S):
        return None
    total_s = billed_s + left * seconds / steps + evaluation_s + order.after_s
    return Projection(
        total_s=total_s,
        total_usd=order.spent_by(total_s),
        timed_steps=steps,
        is_enough=steps >= ENOUGH_STEPS or is_whole or steps >= per_epoch,
        is_whole=is_whole,
    )


def breaks_budget(projection: Projection, order: Order) -> str | None:
    """`corrected estimate $7.10 is over the cap of $5.00`; None where it fits, or may fit."""
    fits_if_below = 1 + UNCERTAINTY
    if projection.total_usd > order.max_cost_usd * fits_if_below:
        return f"corrected estimate ${projection.total_usd:.2f} is over the cap of ${order.max_cost_usd:.2f}"
    hours = projection.total_s / 3600
    if hours > order.max_hours * fits_if_below:
        return f"corrected estimate {hours:.4g} h is over the cap of {order.max_hours:g} h"
    return None


class Overseer:
    """Looks at the trainer's timing while it trains; asks, where somebody attached may answer."""

    def __init__(
        self, run_dir: Path, order: Order, *, say: Callable[[str], None], publish: Callable[[dict[str, Any]], None]
    ) -> None:
        """`say` takes lines for the log, `publish` what the heartbeat tells of the corrected estimate."""
        self._progress = run_dir / "out" / "progress.json"
        self._question, self._answer = run_dir / "question.json", run_dir / "answer"
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
        """Why the run is not worth going on with; None while it is, or while an answer is awaited."""
        now = time.monotonic()
        if self._asked_at is not None:
            return self._reply(now - self._asked_at)
        if now - self._looked_at < _LOOK_EVERY_S:
            return None
        self._looked_at = now
        projection = project(self._timing(), self._order, billed_s)
        if projection is None or not projection.is_enough:
            return None
        self._publish(
            {
                "projected_s": round(projection.total_s, 1),
                "projected_usd": round(projection.total_usd, 4),
                "rests_on": projection.rests_on,
            }
        )
        stage = 2 if projection.is_whole else 1
        if stage <= self._said or self._goes_on:
            return None
        self._said = stage
        cost = f"${projection.total_usd:.2f}, " if self._order.hourly_usd else ""
        took = f"{projection.total_s:.0f} s" if projection.total_s < 600 else f"{projection.total_s / 3600:.2f} h"
        self._say(f"corrected estimate: {cost}{took} in all, from {projection.rests_on}")
        self._too_much = breaks_budget(projection, self._order) or ""
        if self._too_much and self._order.may_ask:
            self._ask(now)
            return None
        return self._too_much or None

    def _timing(self) -> dict[str, Any]:
        """What the trainer says, unless it is left from the shift before a resume."""
        if not self._progress.exists() or self._progress.stat().st_mtime < self._since:
            return {}
        return (read_object(self._progress) or {}).get("timing") or {}

    def _ask(self, now: float) -> None:
        self._asked_at = now
        self._say(f"{self._too_much}; asking whether to go on")
        question = {"question": f"{self._too_much}; go on until the budget ends it?", "wait_s": ANSWER_WAIT_S}
        replace_text(self._question, json.dumps(question))

    def _reply(self, waited_s: float) -> str | None:
        """Training goes on while somebody thinks."""
        given = self._answer.read_text(encoding="utf-8").strip() if self._answer.exists() else None
        if given is None and waited_s < ANSWER_WAIT_S:
            return None
        self._question.unlink(missing_ok=True)
        self._asked_at = None
        if given == "yes":
            self._goes_on = True
            self._say("going on, as answered, until the budget ends it")
            return None
        return f"{self._too_much}; {'the answer was no' if given else 'nobody answered'}"
