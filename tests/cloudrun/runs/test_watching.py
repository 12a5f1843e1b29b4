"""Watch a run from its renting to its receipt, over a connection that is lost and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from cloudrun.backends import Backend
from cloudrun.errors import StoreError
from cloudrun.render.receipt_text import receipt_text
from cloudrun.runs import watching
from cloudrun.runs.context import Context
from cloudrun.runs.watching import Sight, Watching
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import JobState, Phase
from cloudrun.stores import Store
from tests.support.backends import OneMachine
from tests.support.runs import a_local_run
from tests.support.shell import Shell

JOB = """\
name: figures
infra: local
data: {source: data}
run: |
  cd $CLOUDRUN_OUTPUT
  echo '{"kind": "val", "epoch": 1, "loss": 0.5, "accuracy": 0.9, "time": "2026-11-28T12:00:00Z"}' > metrics.jsonl
  echo '{"time": "2026-11-28T12:00:00Z", "gpus": [{"index": 0, "use_percent": 40}]}' > machine.jsonl
  echo '{"epoch": 1, "epochs": 2, "step": 1, "steps": 4}' > progress.json
  echo begun
  while [ ! -e go ]; do sleep 0.05; done
  echo ended
"""


def wait_for(watched: Watching, is_there: Callable[[Sight], object]) -> Sight:
    until = time.monotonic() + 60
    while not is_there(watched.sight):
        assert time.monotonic() < until, watched.sight
        time.sleep(0.02)
    return watched.sight


def test_a_run_is_watched_to_its_receipt_and_a_finished_one_shows_all(shell: Shell) -> None:
    (shell.folder / "data").mkdir()
    run_id = shell("launch", "-d", shell.job(JOB)).out.strip()
    ledger = Ledger(shell.home)

    def watched() -> Watching:
        run = ledger.get(run_id)
        begun = Watching(run, Context.of(run.backend, ledger), receipt_text)
        begun.start()
        return begun

    live = watched()
    sight = wait_for(live, lambda seen: seen.rows and seen.samples and seen.progress and seen.lines)
    assert sight.rows[0]["loss"] == 0.5
    assert sight.samples[0].gpu_percent == 40
    assert (shell.home / "local" / run_id / "out" / "go").write_text("") == 0
    ended = wait_for(live, lambda seen: seen.has_ended)
    assert ended.run.phase is Phase.SUCCEEDED
    assert "ended" in ended.lines
    assert ended.receipt.startswith(run_id)
    assert shell("down", run_id).code == 0
    home = wait_for(watched(), lambda seen: seen.has_ended)
    assert (len(home.rows), len(home.samples)) == (1, 1)
    assert "ended" in home.lines
    assert home.problem == ""


def test_renting_is_watched_by_what_skypilot_prints(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add(a_local_run("plants-1128-aaaaa", phase=Phase.LAUNCHING))
    (tmp_path / "sky").mkdir()
    (tmp_path / "sky" / "plants-1128-aaaaa.log").write_text("Launching on AWS us-east-1\n")
    context = Context(ledger, cast("Backend", OneMachine(JobState.ACTIVE)))
    with ledger.launching("plants-1128-aaaaa"):
        live = Watching(ledger.get("plants-1128-aaaaa"), context, receipt_text)
        live.start()
        wait_for(live, lambda seen: seen.lines == ("Launching on AWS us-east-1",))
        live.leave()
        live.join(10)
    assert not live.is_alive()


class ComesBack:
    """A store over a line that is cut until it is mended."""

    is_cut = True

    def read(self, key: str, *, offset: int = 0, limit: int | None = None) -> bytes | None:
        if self.is_cut:
            raise StoreError("no route to host", hint="wait")
        return b""


def test_a_lost_connection_is_said_until_it_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_READ_EVERY_S", 0.0)
    ledger = Ledger(tmp_path)
    ledger.add(a_local_run("plants-1128-aaaaa", phase=Phase.RUNNING))
    live = Watching(
        ledger.get("plants-1128-aaaaa"), Context(ledger, cast("Backend", OneMachine(JobState.ACTIVE))), receipt_text
    )
    store = ComesBack()
    live._look(cast("Store", store))
    assert live.sight.problem.startswith("no connection to the machine for 0.0 s")
    store.is_cut = False
    live._look(cast("Store", store))
    assert live.sight.problem == ""
