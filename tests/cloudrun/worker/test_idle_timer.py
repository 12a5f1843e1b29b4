"""SkyPilot's idle timer as the watchdog keeps it: armed now and then, and each minute while SkyPilot sees no job."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from cloudrun.worker import sky_runtime
from cloudrun.worker.sky_runtime import IdleTimer
from tests.support.orders import an_order

ARMED = "armed 3"
# SkyPilot's Python: notes what it was asked for, and does it after `delay`.
PYTHON = """\
#!/bin/sh
sleep {delay}
case "$2" in
  *JOBS*) echo armed $3;;
esac >> {asked}
"""


class Runtime:
    def __init__(self, folder: Path) -> None:
        self.asked_path = folder / "asked"
        self.python = folder / "skypilot-runtime" / "bin" / "python"
        self.python.parent.mkdir(parents=True)
        self.answers_after(0)

    def answers_after(self, delay_s: float) -> None:
        self.python.write_text(PYTHON.format(delay=delay_s, asked=self.asked_path))
        self.python.chmod(0o755)

    def asked(self) -> list[str]:
        return self.asked_path.read_text().splitlines() if self.asked_path.exists() else []


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    monkeypatch.setenv("SKY_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(sky_runtime, "_REMIND_EVERY_S", 0.2)
    return Runtime(tmp_path)


def tended(timer: IdleTimer, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        timer.tend()
        time.sleep(0.01)
    timer.leave()


def a_timer(*, has_job: bool, **order: Any) -> IdleTimer:
    fields: dict[str, Any] = {"ending": "skypilot", "has_timer": True, "idle_s": 180.0}
    return IdleTimer(an_order("true", **{**fields, **order}), has_job=lambda: has_job)


def test_it_is_armed_at_the_start_and_left_to_skypilot_while_that_sees_the_job(runtime: Runtime) -> None:
    tended(a_timer(has_job=True), 1.0)
    assert runtime.asked() == [ARMED]


def test_it_is_armed_again_since_a_clock_that_was_set_has_disarmed_it(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sky_runtime, "_ARM_EVERY_S", 0.3)
    tended(a_timer(has_job=True), 1.5)
    assert len(runtime.asked()) >= 2
    assert set(runtime.asked()) == {ARMED}


def test_it_does_not_run_out_while_the_watchdog_works_without_a_job_of_skypilots(runtime: Runtime) -> None:
    tended(a_timer(has_job=False), 1.5)
    assert len(runtime.asked()) >= 3  # skylet counts from each on
    assert set(runtime.asked()) == {ARMED}


def test_it_runs_on_when_the_watchdog_is_no_more(runtime: Runtime) -> None:
    tended(a_timer(has_job=False), 0.5)
    asked = runtime.asked()
    time.sleep(0.5)
    assert runtime.asked() == asked


def test_what_is_asked_of_skylet_at_the_end_is_not_undone_by_an_earlier_word(runtime: Runtime) -> None:
    runtime.answers_after(0.5)
    timer = a_timer(has_job=True)
    timer.tend()
    timer.leave()
    time.sleep(1.0)
    assert runtime.asked() == []


@pytest.mark.parametrize("order", [{"has_timer": False}, {"idle_s": 180.0}])
def test_where_there_is_no_timer_or_no_skypilot_nothing_happens(order: dict[str, Any], runtime: Runtime) -> None:
    runtime.python.unlink()
    tended(a_timer(has_job=False, **order), 0.5)
    assert runtime.asked() == []
