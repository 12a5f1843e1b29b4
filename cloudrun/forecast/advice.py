"""Advise on a job: the cheapest machine for a deadline, the fastest for a budget, and what lies between. Pure.

A choice is judged by the slow end of its estimate: advice that holds only if all goes well is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cloudrun.backends import Offer
from cloudrun.forecast.estimate import NoEstimate
from cloudrun.forecast.offers import weighed
from cloudrun.forecast.workload import Workload
from cloudrun.job.plan import Plan
from cloudrun.state.records import Estimate, Measured

_GAIN = 0.03


@dataclass(frozen=True, slots=True)
class Choice:
    """A way to run the job. `machines`: number of machines, each of which trains its share of the folds.

    `seconds` and `usd` are the slow end of the estimate, of all machines together; `likely_s` and `likely_usd` its
    middle.
    """

    offer: Offer
    spot: bool
    machines: int
    estimate: Estimate
    usd: float
    likely_usd: float

    @property
    def seconds(self) -> float:
        """Seconds to the end at the slow end of the estimate."""
        return self.estimate.high_s

    @property
    def likely_s(self) -> float:
        """Seconds to the end in the middle of the estimate."""
        return (self.estimate.low_s + self.estimate.high_s) / 2


@dataclass(frozen=True, slots=True)
class Advice:
    """All choices that fit the job, and the best of them. None where no choice keeps to the limit.

    `frontier`: the choices that no other one beats in both time and dollars, the fastest first.
    """

    choices: tuple[Choice, ...]
    frontier: tuple[Choice, ...]
    cheapest: Choice | None  # that is done by the deadline
    fastest: Choice | None  # that keeps to the budget
    unknown: tuple[str, ...] = ()  # why offers have no estimate


def advise(  # noqa: PLR0913 - all that an estimate is made from, and two limits
    offers: Sequence[Offer],
    plan: Plan,
    workload: Workload,
    history: Sequence[Measured],
    *,
    deadline_s: float | None,
    max_usd: float | None,
) -> Advice:
    """Return the choices among `offers` for the plan's job, on demand and on spot machines.

    `deadline_s`: seconds from now; None: the cheapest of all is advised. `max_usd` None: the fastest of all.
    """
    choices: list[Choice] = []
    unknown: dict[str, None] = {}
    for spot in (False, True):
        wanted = replace(plan, spec=plan.spec.model_copy(update={"spot": spot}))
        for machines in _counts(workload):
            share = replace(workload, epochs=workload.epochs // machines, models=workload.models // machines)
            for one in weighed(offers, wanted, share, history):
                if not one.fits or one.hourly_usd is None:
                    continue
                if isinstance(one.estimate, NoEstimate):
                    unknown.setdefault(one.estimate.why)
                    continue
                assert one.estimate.low_usd is not None
                assert one.estimate.high_usd is not None
                likely = (one.estimate.low_usd + one.estimate.high_usd) / 2
                choices.append(
                    Choice(
                        offer=one.offer,
                        spot=spot,
                        machines=machines,
                        estimate=one.estimate,
                        usd=round(one.estimate.high_usd * machines, 4),
                        likely_usd=round(likely * machines, 4),
                    )
                )
    in_time = [one for one in choices if deadline_s is None or one.seconds <= deadline_s]
    affordable = [one for one in choices if max_usd is None or one.usd <= max_usd]
    return Advice(
        choices=tuple(sorted(choices, key=lambda one: (one.usd, one.seconds))),
        frontier=tuple(frontier(choices)),
        cheapest=min(in_time, key=lambda one: (one.usd, one.seconds), default=None),
        fastest=next(iter(frontier(affordable)), None),
        unknown=tuple(unknown),
    )


def frontier(choices: Sequence[Choice]) -> list[Choice]:
    """Return the choices that no other one beats in both time and dollars, the fastest first.

    A dearer choice has to be faster by `_GAIN` of the time: an estimate cannot tell smaller differences.
    """
    best: list[Choice] = []
    for one in sorted(choices, key=lambda choice: (choice.usd, choice.seconds)):
        if not best or one.seconds < best[-1].seconds * (1 - _GAIN):
            best.append(one)
    return best[::-1]


def _counts(workload: Workload) -> tuple[int, ...]:
    """Return how many machines can share the job: one, or one for each fold."""
    return (1,) if workload.models <= 1 else (1, workload.models)
