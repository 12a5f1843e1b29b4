"""The dashboard of `watch`: what it shows at each size, its keys, and how it is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from textual.pilot import Pilot

from cloudrun.backends import Backend
from cloudrun.cli.dashboard import questions
from cloudrun.cli.dashboard.app import Dashboard, Outcome
from cloudrun.protocol.machine_use import GpuSample, MachineSample
from cloudrun.protocol.metrics import MetricsRow
from cloudrun.runs.context import Context
from cloudrun.runs.watching import Sight, Watching
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import JobState, Phase, Progress, now_utc
from cloudrun.state.run import Run
from tests.support.backends import OneMachine
from tests.support.runs import a_local_run, an_aws_quote

Steps = Callable[[Pilot[Outcome]], Awaitable[None]]
AT = "2026-11-28T12:00:00Z"


class StandsStill(Watching):
    """Shows one sight of a run and looks no further."""

    def run(self) -> None:
        return


def a_rented_run(run_id: str = "plants-1128-aaaaa", phase: Phase = Phase.RUNNING) -> Run:
    began = now_utc() - timedelta(minutes=30)
    job = {"budget": {"max_cost": 5.0, "max_hours": 4.0}}
    return a_local_run(run_id, phase=phase).model_copy(
        update={"backend": "sky", "quote": an_aws_quote(), "billed_from": began, "job": job}
    )


def a_sight(run: Run, **changes: Any) -> Sight:
    progress = Progress(
        phase="run", heartbeat_at=now_utc(), epoch=2, epochs=4, step=10, steps=20, eta_s=65, images_per_s=312, loss=0.5
    )
    rows = tuple(
        MetricsRow(kind=kind, epoch=epoch, time=AT, loss=2 / epoch, accuracy=0.3 * epoch, lr=1e-4, wait_share=0.4)
        for epoch in (1, 2)
        for kind in ("train", "val")
    )
    gpu = GpuSample(0, 40, 2e9, 8e10, 212.0, 61)
    samples = tuple(MachineSample(AT, 95, 1e9, 8e9, (gpu,)) for _ in range(8))
    known = {"progress": progress, "rows": rows, "samples": samples, "lines": ("line 1", "line \x1b[2J2")}
    return Sight(run, **{**known, **changes})


def dashboard(home: Path, sight: Sight, *, lists: bool = False) -> Dashboard:
    def open_watching(run: Run) -> Watching:
        context = Context(Ledger(home), cast("Backend", OneMachine(JobState.ACTIVE)))
        watching = StandsStill(run, context, lambda _: "")
        watching.sight = sight
        return watching

    return Dashboard(open_watching, run=None if lists else sight.run, read_runs=lambda: [sight.run])


def shown_by(app: Dashboard, steps: Steps, size: tuple[int, int] = (80, 24)) -> Outcome | None:
    """Type at the dashboard; return how it was left."""

    async def typed() -> None:
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await steps(pilot)

    asyncio.run(typed())
    return app.return_value


def text_of(pilot: Pilot[Outcome]) -> str:
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50), (40, 12)])
def test_a_run_fits_each_size(tmp_path: Path, size: tuple[int, int]) -> None:
    async def look(pilot: Pilot[Outcome]) -> None:
        text = text_of(pilot)
        lines = text.splitlines()
        assert len(lines) == size[1]
        assert max(map(len, lines)) <= size[0]
        assert lines[0].startswith("plants-1128-aaaaa  train")
        assert " 38%" in lines[1]
        assert lines[2].startswith("used ")
        assert "q Quit" in lines[-1]
        if size != (40, 12):
            assert "loss  train 1.0000  val 1.0000" in text
            assert "accuracy  train 0.6000" in text
            assert "GPU use  40 %" in text
            assert "line ^[[2J2" in text or "line 2" in text
        if size[0] >= 120:
            assert "step 10/20, 1 min 05 s left, 312 images/s, loss 0.5000" in text
            assert "$1.8" in text
            assert "GPU power  212 W" in text

    shown_by(dashboard(tmp_path, a_sight(a_rented_run())), look, size)


def test_an_idle_gpu_and_a_lost_connection_are_said(tmp_path: Path) -> None:
    async def look(pilot: Pilot[Outcome]) -> None:
        text = text_of(pilot)
        assert "GPU 0 idled 60% of the training (8 samples); likely cause: steps waited for" in text
        assert "no connection for 12 s" in text

    shown_by(dashboard(tmp_path, a_sight(a_rented_run(), problem="no connection for 12 s")), look)


def test_a_run_without_figures_says_what_goes_on(tmp_path: Path) -> None:
    async def look(pilot: Pilot[Outcome]) -> None:
        text = text_of(pilot)
        assert "plants-1128-aaaaa  rent" in text
        assert "no epoch yet" in text
        assert "Launching on AWS" in text

    run = a_rented_run(phase=Phase.LAUNCHING)
    shown_by(dashboard(tmp_path, Sight(run, lines=("Launching on AWS",))), look)


def test_a_run_that_has_ended_shows_its_receipt(tmp_path: Path) -> None:
    async def look(pilot: Pilot[Outcome]) -> None:
        await pilot.press("l")
        await pilot.pause()
        text = text_of(pilot)
        assert "succeeded" in text
        assert "total $0.31" in text
        assert "loss  train" not in text

    run = a_rented_run(phase=Phase.SUCCEEDED)
    shown_by(dashboard(tmp_path, a_sight(run, receipt="receipt\n  total $0.31", has_ended=True)), look)


def test_q_and_ctrl_c_leave_the_run_alone(tmp_path: Path) -> None:
    async def quit_it(pilot: Pilot[Outcome]) -> None:
        await pilot.press("q")

    async def interrupt(pilot: Pilot[Outcome]) -> None:
        await pilot.press("ctrl+c")

    sight = a_sight(a_rented_run())
    assert shown_by(dashboard(tmp_path, sight), quit_it) == ("quit", "plants-1128-aaaaa")
    assert shown_by(dashboard(tmp_path, sight), interrupt) == ("interrupted", "plants-1128-aaaaa")


def test_down_asks_and_only_a_later_y_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "TYPED_AHEAD_S", 30.0)

    async def typed_ahead(pilot: Pilot[Outcome]) -> None:
        await pilot.press("d", "y", "enter")
        assert "Stop plants-1128-aaaaa, bring its results home and end its bill? [y/N]" in " ".join(
            text_of(pilot).split()
        )
        monkeypatch.setattr(questions, "TYPED_AHEAD_S", 0.0)
        await pilot.press("n")
        await pilot.pause()
        assert "[y/N]" not in text_of(pilot)
        await pilot.press("d")
        await pilot.pause()
        await pilot.press("y")

    assert shown_by(dashboard(tmp_path, a_sight(a_rented_run())), typed_ahead) == ("down", "plants-1128-aaaaa")


def test_down_on_a_run_that_has_ended_asks_nothing(tmp_path: Path) -> None:
    async def press(pilot: Pilot[Outcome]) -> None:
        await pilot.press("d")
        await pilot.pause()
        assert "[y/N]" not in text_of(pilot)

    run = a_rented_run(phase=Phase.SUCCEEDED).model_copy(update={"released_at": now_utc()})
    shown_by(dashboard(tmp_path, a_sight(run)), press)


def test_help_names_every_key(tmp_path: Path) -> None:
    async def press(pilot: Pilot[Outcome]) -> None:
        await pilot.press("question_mark")
        await pilot.pause()
        for words in ("quit; the run goes on", "the whole log", "(asks)"):
            assert words in text_of(pilot)
        await pilot.press("escape")
        await pilot.pause()
        assert "the whole log" not in text_of(pilot)

    shown_by(dashboard(tmp_path, a_sight(a_rented_run())), press)


def test_the_list_of_runs_opens_one_and_comes_back(tmp_path: Path) -> None:
    async def press(pilot: Pilot[Outcome]) -> None:
        assert "1 runs, 1 may cost money" in text_of(pilot)
        assert "plants-1128-aaaaa" in text_of(pilot)
        await pilot.press("enter")
        await pilot.pause()
        assert "plants-1128-aaaaa  train" in text_of(pilot)
        await pilot.press("escape")
        await pilot.pause()
        assert "1 may cost money" in text_of(pilot)

    shown_by(dashboard(tmp_path, a_sight(a_rented_run()), lists=True), press)
