"""A run that goes on, as its page hears of it: real runs on this computer."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from cloudrun.state.records import Phase
from cloudrun.ui.events import event, lines_of, log_part
from cloudrun.ui.live import LOG_LINES, Snapshot
from tests.support.browsing import Event, visiting
from tests.support.runs import a_local_run, rented
from tests.support.steps import launched


def test_a_page_hears_of_epochs_and_lines_and_of_the_end(tmp_path: Path) -> None:
    _, ledger, run_id = launched(tmp_path)
    record = (ledger.home / "ledger" / f"{run_id}.json").read_bytes()
    heard: list[Event] = []
    with visiting(ledger) as visitor:
        page = visitor(f"/run/{run_id}").text
        assert f'data-events="/run/{run_id}/events"' in page
        for one in visitor.events(run_id):
            heard.append(one)
            for epoch in (1, 2):
                if f"epoch {epoch} of 2" in one.data:  # as the heartbeat tells, every two seconds
                    (tmp_path / str(epoch)).touch()
        assert heard[-1] == Event("ended", "", "succeeded")
        assert "data-events" not in visitor(f"/run/{run_id}").text
    logs = [one.json for one in heard if one.name == "log"]
    assert logs[0]["reset"] is True
    lines = [line for one in logs for line in one["lines"]]
    assert lines == ["epoch 1 <b>done</b>", "epoch 2 <b>done</b>", "cloudrun: finished"]
    assert "<title>epoch 2: validation 20.0%</title>" in [one.data for one in heard if one.name == "curves"][-1]
    assert (ledger.home / "ledger" / f"{run_id}.json").read_bytes() == record


def test_a_page_whose_connection_was_cut_gets_the_lines_that_it_missed(tmp_path: Path) -> None:
    _, ledger, run_id = launched(tmp_path)
    with visiting(ledger) as visitor:
        first = next(one for one in visitor.events(run_id) if one.name == "log")
        (tmp_path / "1").touch()
        (tmp_path / "2").touch()
        again = [one for one in visitor.events(run_id, first.id) if one.name == "log"]
        lines = [line for one in again for line in one.json["lines"]]
        assert lines == ["epoch 2 <b>done</b>", "cloudrun: finished"]
        assert not any(one.json["reset"] for one in again)
        of_another_server = next(one for one in visitor.events(run_id, "0000.1") if one.name == "log")
        assert of_another_server.json["reset"] is True
        assert len(of_another_server.json["lines"]) == 3


def test_a_run_that_was_killed_is_shown_as_failed_and_the_ledger_stays(tmp_path: Path) -> None:
    _, ledger, run_id = launched(tmp_path)
    folder = ledger.home / "local" / run_id
    os.kill(int((folder / "worker.pid").read_text()), signal.SIGKILL)
    with visiting(ledger) as visitor:
        until = time.monotonic() + 20
        while "failed" not in (page := visitor(f"/run/{run_id}").text) and time.monotonic() < until:
            time.sleep(0.1)
        assert "failed" in page
        assert "failed" in visitor("/").text
    assert ledger.get(run_id).phase is not Phase.FAILED
    with suppress(ProcessLookupError):  # it may have ended with its worker
        os.killpg(int((folder / "job.pid").read_text()), signal.SIGKILL)


def test_a_page_has_the_lines_that_it_names_of_the_same_server_alone() -> None:
    assert lines_of("ab12.7", "ab12") == 7
    for told in ("", "ab12", "ab12.", "ab12.x", "cd34.7", "ab12.-1", "ab12.²", f"ab12.{'9' * 30}"):
        assert lines_of(told, "ab12") is None


def test_lines_between_that_are_gone_are_not_left_out_unseen() -> None:
    lines = tuple(f"line {number}" for number in range(300, 500))
    seen = Snapshot(a_local_run("r"), (), (), lines, 500, "")
    assert len(lines) == LOG_LINES
    assert log_part(seen, 498) == '{"reset": false, "lines": ["line 498", "line 499"]}'
    assert log_part(seen, 300).startswith('{"reset": false, "lines": ["line 300"')
    assert log_part(seen, 299).startswith('{"reset": true, "lines": ["line 300"')
    assert log_part(seen, None).startswith('{"reset": true')
    assert log_part(seen, 501).startswith('{"reset": true')


def test_no_text_can_end_an_event_or_begin_another() -> None:
    sent = event("top", "a\n\nevent: ended\rdata: x\r\nid: 9")
    assert sent == b"event: top\ndata: a\ndata: \ndata: event: ended\ndata: data: x\ndata: id: 9\n\n"


def test_a_machine_that_does_not_answer_keeps_no_page_waiting_and_is_not_taken_for_lost(tmp_path: Path) -> None:
    ledger, run = rented(tmp_path / "home", handed_over=True, epoch=3, epochs=9)
    record = (ledger.home / "ledger" / "r.json").read_bytes()
    with visiting(ledger) as visitor:
        began = time.monotonic()
        assert "running" in visitor("/").text
        assert time.monotonic() - began < 5
        top = next(one for one in visitor.events("r") if one.name == "top").data
        assert "epoch 3 of 9" in top
        assert "what is shown was seen before" in top
        assert 'class="state dim">running' in visitor("/run/r").text
    assert (ledger.home / "ledger" / "r.json").read_bytes() == record
    assert run.phase is Phase.RUNNING
