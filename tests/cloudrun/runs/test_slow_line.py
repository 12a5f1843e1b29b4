"""A line so slow that the budget goes while weights are sent, before anything on the machine watches it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, cast

import pytest

from cloudrun.backends import Backend
from cloudrun.backends.skypilot.backend import SkyBackend
from cloudrun.errors import BudgetUsed, ExitCode
from cloudrun.runs.attempt import start
from cloudrun.runs.context import Context
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import Phase, now_utc
from tests.support.backends import Market
from tests.support.console import Told
from tests.support.orders import an_order
from tests.support.plans import RUN_ID, a_plan
from tests.support.processes import has_ended, wait_for
from tests.support.runs import a_runpod_quote, a_skypilot_run

# Commands run here; an rsync is never answered.
SSH = """\
#!/bin/sh
case "$*" in
*"rsync --server"*) echo $$ >> FOLDER/rsyncs; exec cat 3>&1 > /dev/null ;;
esac
for word; do :; done
exec sh -c "$word"
"""


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine at the end of such a line."""
    (tmp_path / "ssh").write_text(SSH.replace("FOLDER", str(tmp_path)))
    (tmp_path / "ssh").chmod(0o755)
    entry = tmp_path / ".sky" / "generated" / "ssh" / f"cloudrun-{RUN_ID}"
    entry.parent.mkdir(parents=True)
    entry.write_text("Host x\n")
    (tmp_path / "staged").mkdir()
    (tmp_path / "staged" / "weights").write_bytes(b"x" * 1_000_000)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_sending_ends_in_time_to_end_the_machine_within_its_budget(slow: Path) -> None:
    order = an_order("", ending="skypilot", hourly_usd=1.0, max_hours=44 / 3600)
    began = time.monotonic()
    with pytest.raises(BudgetUsed, match=r"the budget \(\$1.00, 44.0 s\) was used before the job"):
        SkyBackend(slow / "home").start(a_plan(), slow / "staged", order)
    assert 3 < time.monotonic() - began < 30
    pid = int((slow / "rsyncs").read_text())
    wait_for(lambda: has_ended(pid), 10)


@pytest.mark.parametrize("changes", [{"max_hours": 39 / 3600}, {"max_cost_usd": 0.01, "billed_s": 9.0}])
def test_what_could_not_be_sent_in_time_is_not_begun(changes: dict[str, Any], slow: Path) -> None:
    order = an_order("", ending="skypilot", hourly_usd=1.0, **changes)
    with pytest.raises(BudgetUsed):
        SkyBackend(slow / "home").start(a_plan(), slow / "staged", order)
    assert not (slow / "rsyncs").exists()


class SlowMarket(Market):
    """Its machine is up, and the line to it is slow."""

    def start(self, *_: object) -> str:
        raise BudgetUsed("the budget was used while weights were sent", hint="more")

    def billed_elsewhere(self, _: object) -> None:
        return None

    def offers(self, *_: object) -> list[object]:
        return []


def test_such_a_launch_ends_the_machine_and_is_over_budget(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add(
        a_skypilot_run(
            run_id=RUN_ID, quote=a_runpod_quote(), infra="runpod", billed_from=now_utc(), phase=Phase.LAUNCHING
        )
    )
    market = SlowMarket({}, up={"RTX4090:1"})
    with pytest.raises(BudgetUsed) as caught:
        start(a_plan(), Context(ledger, cast("Backend", market), Told().console()))
    assert caught.value.exit_code is ExitCode.BUDGET
    run = ledger.get(RUN_ID)
    assert (market.up, run.phase, run.exit_code, run.may_bill) == (set(), Phase.OVER_BUDGET, 4, False)
