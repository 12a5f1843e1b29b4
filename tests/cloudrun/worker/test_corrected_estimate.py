"""The corrected estimate: from steps that were timed on the machine to a run that stops before its money is gone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudrun.protocol.messages import Timing
from cloudrun.protocol.order import Order
from cloudrun.worker.corrected_estimate import Overseer, breaks_budget, correct


def an_order(**changes: Any) -> Order:
    fields: dict[str, Any] = dict.fromkeys(Order.__dataclass_fields__)
    budget = {
        "hourly_usd": 3.6,
        "max_cost_usd": 1.0,
        "max_hours": 4.0,
        "after_s": 20.0,
        "may_ask": False,
        "billed_s": 0.0,
        "spent_usd": 0.0,
    }
    return Order(**{**fields, **budget, **changes})


def timing(**changes: Any) -> dict[str, Any]:
    """Half a second a step, 100 steps to go, 10 s of evaluation."""
    fields = {"timed_steps": 20, "timed_s": 10.0, "steps_per_epoch": 50, "steps_left": 100}
    return {**fields, "evaluation_left_s": 10.0, "evaluation_is_measured": False, **changes}


def test_what_is_billed_what_is_left_and_what_comes_after_add_up() -> None:
    corrected = correct(Timing.read(timing()), an_order(), billed_s=30.0)
    assert corrected is not None
    assert corrected.total_s == 30 + 100 * 0.5 + 10 + 20
    assert corrected.total_usd == pytest.approx(0.11)
    assert corrected.rests_on == "20 timed steps on this machine"


@pytest.mark.parametrize(
    ("changes", "is_enough"),
    [
        ({}, True),
        ({"timed_steps": 19}, False),
        ({"timed_steps": 4, "steps_per_epoch": 4}, True),  # a whole epoch
        ({"timed_steps": 1, "steps_per_epoch": 4, "evaluation_is_measured": True}, True),
    ],
)
def test_a_few_steps_are_not_relied_on_unless_the_epoch_has_no_more(changes: dict[str, Any], is_enough: bool) -> None:
    corrected = correct(Timing.read(timing(**changes)), an_order(), billed_s=0.0)
    assert corrected is not None
    assert corrected.is_enough is is_enough


@pytest.mark.parametrize("known", [{}, {"timed_steps": 0}, {"timed_steps": "many"}, timing(timed_steps=0)])
def test_a_trainer_that_times_nothing_is_never_stopped_for_it(known: dict[str, Any]) -> None:
    assert correct(Timing.read(known), an_order(), billed_s=0.0) is None


@pytest.mark.parametrize(
    ("billed_s", "order", "said"),
    [
        (960.0, {}, None),  # $1.04 of $1.00: within what a corrected may be wrong by
        (980.0, {}, "corrected estimate $1.06 is over the cap of $1.00"),
        (0.0, {"hourly_usd": 0.0, "max_hours": 0.03}, None),
        (0.0, {"hourly_usd": 0.0, "max_hours": 0.01}, "corrected estimate 0.02222 h is over the cap of 0.01 h"),
    ],
)
def test_a_budget_is_broken_when_it_is_by_more_than_the_uncertainty(
    billed_s: float, order: dict[str, float], said: str | None
) -> None:
    corrected = correct(Timing.read(timing()), an_order(**order), billed_s=billed_s)
    assert corrected is not None
    assert breaks_budget(corrected, an_order(**order)) == said


class TestOverseer:
    """As the worker asks it, several times a second."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "out").mkdir()
        return tmp_path

    @pytest.fixture
    def said(self) -> list[str]:
        return []

    @pytest.fixture
    def told(self) -> dict[str, Any]:
        return {}

    @pytest.fixture
    def oversee(self, folder: Path, said: list[str], told: dict[str, Any]) -> Callable[..., Overseer]:
        def make(**changes: Any) -> Overseer:
            overseer = Overseer(
                folder,
                an_order(**changes),
                say=said.append,
                publish=lambda corrected: told.update(corrected.as_plain()),
            )
            (folder / "out" / "progress.json").write_text(json.dumps({"epoch": 1, "timing": timing()}))
            return overseer

        return make

    def test_what_an_earlier_attempt_timed_is_not_taken_for_this_one(
        self, folder: Path, said: list[str], told: dict[str, Any]
    ) -> None:
        progress = folder / "out" / "progress.json"
        progress.write_text(json.dumps({"timing": timing()}))
        os.utime(progress, (time.time() - 60, time.time() - 60))
        overseer = Overseer(
            folder,
            an_order(max_cost_usd=0.05),
            say=said.append,
            publish=lambda corrected: told.update(corrected.as_plain()),
        )
        assert overseer.reason_to_stop(30.0) is None
        assert said == []

    def test_a_run_that_nobody_follows_stops_at_once(self, oversee: Callable[..., Overseer], said: list[str]) -> None:
        overseer = oversee(max_cost_usd=0.05)
        assert overseer.reason_to_stop(30.0) == "corrected estimate $0.11 is over the cap of $0.05"
        assert said == ["corrected estimate: $0.11, 110 s in all, from 20 timed steps on this machine"]

    def test_a_run_that_fits_says_so_once_and_keeps_the_heartbeat_informed(
        self, oversee: Callable[..., Overseer], said: list[str], told: dict[str, Any]
    ) -> None:
        overseer = oversee()
        assert overseer.reason_to_stop(30.0) is None
        assert told == {"projected_s": 110.0, "projected_usd": 0.11, "rests_on": "20 timed steps on this machine"}
        time.sleep(1.1)
        assert overseer.reason_to_stop(31.0) is None
        assert (len(said), told["projected_s"]) == (1, 111.0)

    def test_a_person_may_let_it_go_on_and_is_asked_once(self, oversee: Callable[..., Overseer], folder: Path) -> None:
        overseer = oversee(max_cost_usd=0.05, may_ask=True)
        assert overseer.reason_to_stop(30.0) is None
        question = json.loads((folder / "question.json").read_text())
        assert question["question"].endswith("is over the cap of $0.05; go on until the budget ends it?")
        (folder / "answer").write_text("yes")
        assert overseer.reason_to_stop(30.0) is None
        assert not (folder / "question.json").exists()
        time.sleep(1.1)
        assert overseer.reason_to_stop(30.0) is None

    def test_a_no_stops_it(self, oversee: Callable[..., Overseer], folder: Path) -> None:
        overseer = oversee(max_cost_usd=0.05, may_ask=True)
        assert overseer.reason_to_stop(30.0) is None
        (folder / "answer").write_text("no")
        assert (overseer.reason_to_stop(30.0) or "").endswith("the answer was no")

    def test_silence_stops_it(self, oversee: Callable[..., Overseer], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("cloudrun.worker.corrected_estimate.QUESTION_WAIT_S", 0.0)
        overseer = oversee(max_cost_usd=0.05, may_ask=True)
        assert overseer.reason_to_stop(30.0) is None
        assert (overseer.reason_to_stop(30.0) or "").endswith("nobody answered")
