"""Following a run: its lines one by one, and the worker's question to whoever is there."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from cloudrun.backends import Backend
from cloudrun.protocol.messages import Question, Result
from cloudrun.protocol.run_folder import RunFolder
from cloudrun.protocol.words import NO, YES, EndReason
from cloudrun.runs.console import Console
from cloudrun.runs.context import Context
from cloudrun.runs.follow import LogReader, follow
from cloudrun.state.ledger import Ledger
from cloudrun.state.records import Phase
from cloudrun.stores import open_store
from tests.support.runs import a_local_run


@pytest.mark.parametrize("said", [True, False])
def test_whoever_follows_answers_the_workers_question(tmp_path: Path, *, said: bool) -> None:
    files = RunFolder(tmp_path / "run")
    files.root.mkdir()
    files.log.write_text("one\ntwo\n")
    Question("$7 is over the cap of $5; go on?", 60.0).write(files.question)
    ledger = Ledger(tmp_path)
    ledger.add(a_local_run("r", run_uri=files.root.as_uri(), phase=Phase.RUNNING))
    asked: list[tuple[str, float]] = []

    def ask(question: str, wait_s: float) -> bool:
        asked.append((question, wait_s))
        Result(EndReason.FINISHED, 0, "", "2026-11-24T12:00:00Z", "2026-11-24T12:01:00Z").write(files.result)
        return said

    lines: list[str] = []
    context = Context(ledger, cast("Backend", None), Console(on_line=lines.append, ask=ask))
    run = follow(ledger.get("r"), context, reader=LogReader(open_store(files.root.as_uri())), answers_questions=True)
    assert (run.phase, lines) == (Phase.SUCCEEDED, ["one", "two"])
    assert asked == [("$7 is over the cap of $5; go on?", 60.0)]
    assert files.answer.read_bytes() == (YES if said else NO)
