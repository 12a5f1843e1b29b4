"""Records are read again only where they have changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudrun.state.ledger import Ledger
from cloudrun.ui.records import Kept, Records
from tests.support.runs import a_local_run


def test_only_records_that_have_changed_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)
    for run_id in ("a", "b"):
        ledger.add(a_local_run(run_id))
    read: list[str] = []
    get = Ledger.get

    def get_and_note(self: Ledger, run_id: str) -> object:
        read.append(run_id)
        return get(self, run_id)

    monkeypatch.setattr(Ledger, "get", get_and_note)
    records = Records(ledger)
    assert {run.run_id for run in records.all()[0]} == {"a", "b"}
    ledger.update("b", lambda run: run.preparing())
    read.clear()
    runs, damaged = records.all()
    assert read == ["b"]
    assert {run.run_id: run.phase.value for run in runs} == {"a": "launching", "b": "preparing"}
    assert damaged == []
    (tmp_path / "ledger" / "a.json").unlink()
    assert [run.run_id for run in records.all()[0]] == ["b"]
    assert records.get("a") is None


def test_the_newest_run_comes_first_and_a_damaged_record_is_told(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for run_id in ("a", "b", "c"):
        ledger.add(a_local_run(run_id, created_at=f"2026-11-2{'abc'.index(run_id)}T12:00:00Z"))
    (tmp_path / "ledger" / "b.json").write_text("{}")
    runs, damaged = Records(ledger).all()
    assert [run.run_id for run in runs] == ["c", "a"]
    assert [one.run_id for one in damaged] == ["b"]


def test_a_value_is_made_anew_where_its_source_has_changed_and_the_oldest_is_dropped() -> None:
    kept: Kept[int] = Kept(2)
    made = iter(range(10))
    assert [kept.get("a", 1, lambda: next(made)) for _ in range(2)] == [0, 0]
    assert kept.get("a", 2, lambda: next(made)) == 1
    assert kept.get("b", 1, lambda: next(made)) == 2
    assert kept.get("c", 1, lambda: next(made)) == 3
    assert kept.get("a", 2, lambda: next(made)) == 4
