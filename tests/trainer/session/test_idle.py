"""The device's idle time: gaps between a step's end and the next batch, by the device's clock."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from trainer.session.device import Device
from trainer.session.idle import IdleTime, idle_time_of


@dataclass
class DeviceTime:
    """A device whose queue reaches each stamp when the test says, in milliseconds."""

    now: float = 0.0

    def stamp(self) -> Reached:
        return Reached(self.now)


@dataclass(frozen=True)
class Reached:
    at: float

    def elapsed_time(self, later: Reached) -> float:
        return later.at - self.at


def test_only_gaps_between_a_step_and_the_next_batch_are_idle() -> None:
    device = DeviceTime()
    idle = IdleTime(device.stamp)
    for comes_at, ends_at in ((50, 150), (150, 250), (290, 390)):  # the first batch cannot be fetched ahead
        device.now = comes_at
        idle.batch_came()
        device.now = ends_at
        idle.step_ended()
    assert idle.read_s() == pytest.approx(0.040)
    assert idle.read_s() == 0
    device.now = 400
    idle.batch_came()
    assert idle.read_s() == pytest.approx(0.010)


def test_the_time_of_a_checkpoint_is_not_waited_for_images() -> None:
    device = DeviceTime()
    idle = IdleTime(device.stamp)
    idle.step_ended()
    idle.forget_last_step()
    device.now = 9000
    idle.batch_came()
    assert idle.read_s() == 0


def test_on_a_cpu_it_is_the_clock_that_tells() -> None:
    idle = idle_time_of(Device(torch.device("cpu"), torch.float32, "fp32", None, None))
    idle.step_ended()
    idle.batch_came()
    assert 0 <= idle.read_s() < 5
