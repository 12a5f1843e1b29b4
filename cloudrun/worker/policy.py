"""What the watchdog does next, from what it sees. Pure, so that every odd case is a row in a table.

It never acts on a check that failed: what could not be seen is None, and None is never a reason.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloudrun.protocol.order import Order
from cloudrun.protocol.timing import HOME_PATIENCE_S, STOP_PATIENCE_S
from cloudrun.protocol.words import EndReason, OnFinish


@dataclass(frozen=True)
class Observation:
    """What the watchdog sees now; ages in seconds, None where there is nothing to be seen."""

    billed_s: float
    attempt_lives: bool
    is_left: bool = False  # told to go away and leave the machine as it is
    is_signalled: bool = False  # the machine is being taken away
    stop_age_s: float | None = None  # since the job was asked to stop
    result_age_s: float | None = None  # since the job's last word
    has_output: bool = True  # files of the job's own; without any, only the log can be lost
    safe_age_s: float | None = None  # since the results are at home, or all in the store
    data_silence_s: float | None = None  # while the job waits for its data
    step_silence_s: float | None = None  # while it trains


@dataclass(frozen=True)
class Wait:
    """Do nothing until the next look."""


@dataclass(frozen=True)
class Stop:
    """Ask the job to save and stop."""

    reason: EndReason
    message: str


@dataclass(frozen=True)
class Kill:
    """End the job's processes: it was asked to stop, and did not in time."""


@dataclass(frozen=True)
class RecordCrash:
    """Write a result for the attempt, which died without one."""


@dataclass(frozen=True)
class End:
    """End the machine: its results are safe, or there are none, or the budget is used."""

    why: str


@dataclass(frozen=True)
class Detach:
    """End the watchdog and leave the machine as it is, under its provider's own idle timer."""


Action = Wait | Stop | Kill | RecordCrash | End | Detach


def decide(order: Order, seen: Observation) -> Action:
    """Return the watchdog's next action for the run of `order`."""
    if seen.is_left:
        return Detach()
    if order.ends_machine and seen.billed_s >= order.limit_s() - order.end_lead_s:
        return End("its budget is used")
    if seen.result_age_s is None:
        return _while_it_runs(order, seen)
    return _after_it_ended(order, seen)


def time_text(seconds: float) -> str:
    """`18 s`, `12.5 min`, `1.25 h`: as short as it is exact enough."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.2f} h"


def _while_it_runs(order: Order, seen: Observation) -> Action:
    if not seen.attempt_lives:
        return RecordCrash()
    if seen.stop_age_s is not None:
        return Kill() if seen.stop_age_s > STOP_PATIENCE_S else Wait()
    if seen.billed_s >= order.limit_s() - order.reserve_s():
        spent = order.spent_by(seen.billed_s)
        money = f", ${spent:.2f}" if order.hourly_usd else ""
        return Stop(EndReason.BUDGET, f"the budget is used: {time_text(seen.billed_s)}{money}")
    if seen.data_silence_s is not None and seen.data_silence_s > order.idle_s:
        return Stop(EndReason.NO_DATA, f"no data have come for {order.idle_s / 60:g} minutes")
    if seen.step_silence_s is not None and seen.step_silence_s > order.stall_s:
        return Stop(EndReason.STALLED, f"no training step for {order.stall_s / 60:g} minutes")
    return Wait()


def _after_it_ended(order: Order, seen: Observation) -> Action:
    assert seen.result_age_s is not None
    if not order.waits_for_results or seen.is_signalled:
        return Detach()
    if not order.ends_machine and seen.billed_s >= order.limit_s():
        return Detach()  # a store that takes nothing must not hold this computer for ever
    if seen.safe_age_s is None and (seen.has_output or seen.result_age_s < order.idle_s):
        return Wait()  # the machine has the only copy: it stays until the results are fetched, within the budget
    if order.on_finish == OnFinish.KEEP or not order.ends_machine:
        return Detach()
    if seen.safe_age_s is not None and seen.safe_age_s < HOME_PATIENCE_S:
        return Wait()
    return End("the results are safe" if seen.safe_age_s is not None else "there are no results to wait for")
