"""Machines that were lost: seen for what they are, ended where nothing can be lost by it, and followed no longer."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from cloudrun.backends import Backend
from cloudrun.billing.cost import cost_of
from cloudrun.billing.receipt import receipt
from cloudrun.render.receipt_text import receipt_text
from cloudrun.runs import follow as following
from cloudrun.runs.context import Context
from cloudrun.runs.down import ResultsNotHome, down, end_lost
from cloudrun.runs.follow import LogReader, NoAnswer, follow
from cloudrun.runs.lost import disk_may_hold_results
from cloudrun.runs.refresh import look
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import JobState, Phase, now_utc
from cloudrun.stores import open_store
from tests.support.backends import OneMachine
from tests.support.runs import a_runpod_quote, rented


def with_backend(ledger: Ledger, provider: OneMachine) -> Context:
    return Context(ledger, cast("Backend", provider))


def test_a_machine_that_its_provider_stopped_is_lost_and_not_stopped_by_anybody(tmp_path: Path) -> None:
    ledger, run = rented(tmp_path)
    lost = look(run, with_backend(ledger, OneMachine(JobState.STOPPED)))
    assert (lost.phase, lost.exit_code, lost.may_bill) == (Phase.LOST, 1, True)
    assert lost.message.startswith("it left no result: its provider stopped the machine (outbid, ")


@pytest.mark.parametrize(("told_min", "minutes", "end_is"), [(40, 40, "proven"), (None, 30, "not seen")])
def test_what_is_left_of_it_is_ended_and_billed_until_it_was_stopped(
    told_min: int | None, minutes: int, end_is: str, tmp_path: Path
) -> None:
    ledger, run = rented(tmp_path)
    assert run.billed_from is not None
    provider = OneMachine(JobState.STOPPED)
    if told_min is not None:
        provider.told = run.billed_from + timedelta(minutes=told_min)
    lost = look(run, with_backend(ledger, provider))
    ended = end_lost(lost, with_backend(ledger, provider))
    assert provider.ended == ["r"]
    assert (ended.phase, ended.may_bill) == (Phase.LOST, False)
    cost = receipt(ended, now_utc())
    assert (cost["hours"], cost["end_is"]) == (pytest.approx(minutes / 60), end_is)
    assert (cost["cost_high_usd"] > cost["cost_usd"]) is (told_min is None)
    assert ("nobody saw it go" in receipt_text(cost)) is (told_min is None)


@pytest.mark.parametrize(
    ("changes", "may_hold"),
    [
        ({}, False),  # RunPod's disk goes with the machine
        ({"quote": a_runpod_quote(infra="aws")}, True),
        ({"quote": a_runpod_quote(infra="aws"), "home_complete": True}, False),
        ({"quote": a_runpod_quote(infra="aws"), "run_uri": None}, False),
        ({"quote": a_runpod_quote(infra="nebius", spot=True)}, False),
        ({"quote": None}, True),
    ],
)
def test_a_stopped_machine_may_hold_the_only_copy(changes: dict[str, Any], may_hold: bool, tmp_path: Path) -> None:
    _, run = rented(tmp_path, **changes)
    assert disk_may_hold_results(run) is may_hold


def test_the_only_copy_is_only_thrown_away_by_force(tmp_path: Path) -> None:
    ledger, run = rented(tmp_path, quote=a_runpod_quote(infra="aws"))
    provider = OneMachine(JobState.STOPPED)
    with pytest.raises(ResultsNotHome, match="may hold results that are not home"):
        down(run, with_backend(ledger, provider), force=False)
    assert provider.ended == []
    ended = down(ledger.get("r"), with_backend(ledger, provider), force=True)
    assert (provider.ended, ended.phase, ended.may_bill) == (["r"], Phase.LOST, False)
    assert cost_of(ended, now_utc()).hours == pytest.approx(0.5)


def test_following_ends_with_a_machine_that_is_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    ledger, run = rented(tmp_path, run_uri=folder.as_uri(), backend="local")
    reader = LogReader(open_store(folder.as_uri()))
    seen = follow(run, with_backend(ledger, OneMachine(JobState.STOPPED)), reader=reader)
    assert seen.phase is Phase.LOST


def test_following_ends_where_nobody_says_anything_for_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_UNKNOWN_S", 0.5)
    folder = tmp_path / "run"
    folder.mkdir()
    ledger, run = rented(tmp_path, run_uri=folder.as_uri(), backend="local")
    reader = LogReader(open_store(folder.as_uri()))
    with pytest.raises(NoAnswer, match="neither the machine of `r` nor its provider has said anything"):
        follow(run, with_backend(ledger, OneMachine(JobState.UNKNOWN)), reader=reader)
    assert ledger.get("r").phase is Phase.RUNNING  # which proves nothing
