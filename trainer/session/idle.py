"""Measure how long the device had nothing to do because the next batch was not there yet."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, Self

import torch

from trainer.session.device import Device


class Stamp(Protocol):
    """A moment in the device's own time."""

    def elapsed_time(self, later: Self) -> float:
        """Return the milliseconds from this stamp to a later one, both of which have been reached."""
        ...


class IdleTime:
    """Sum the gaps between the end of a step and the arrival of the next batch, by the device's clock.

    A GPU's queue may hide the wait of the CPU: then there is no gap. Call `batch_came` and `step_ended` in turn, and
    `read_s` after the device was waited for.
    """

    def __init__(self, stamp: Callable[[], Stamp]) -> None:
        """`stamp`: put a stamp into the device's queue."""
        self._stamp = stamp
        self._ended: Stamp | None = None
        self._gaps: list[tuple[Stamp, Stamp]] = []

    def batch_came(self) -> None:
        if self._ended is not None:
            self._gaps.append((self._ended, self._stamp()))

    def step_ended(self) -> None:
        self._ended = self._stamp()

    def forget_last_step(self) -> None:
        """Do not count the time until the next batch: something else is done meanwhile."""
        self._ended = None

    def read_s(self) -> float:
        """Return the seconds since the last call."""
        idle_s = sum(ended.elapsed_time(came) for ended, came in self._gaps) / 1000
        self._gaps.clear()
        return idle_s


def idle_time_of(device: Device) -> IdleTime:
    """Return an IdleTime by the events of a GPU, or by the clock of a CPU, whose work is done when a call returns."""
    return IdleTime(_event if device.is_cuda else _Moment)


def _event() -> Stamp:
    event: Stamp = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()  # type: ignore[attr-defined]
    return event


class _Moment:
    def __init__(self) -> None:
        self._at = time.monotonic()

    def elapsed_time(self, later: _Moment) -> float:
        return 1000 * (later._at - self._at)
