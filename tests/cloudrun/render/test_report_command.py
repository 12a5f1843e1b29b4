"""`cloudrun report`: one run, several runs, and the browser."""

from __future__ import annotations

import json
import re
import webbrowser
from datetime import datetime
from pathlib import Path

import pytest

from cloudrun.backends.local import LocalBackend
from cloudrun.runs.comparison import page_name
from cloudrun.state.run import Run
from tests.support.desk import JOB, MOMENT, Desk


def trained(desk: Desk, run_id: str, *, accuracy: float, lr: float = 3e-4) -> None:
    """A finished run with one epoch, and a prediction that is right."""
    out = desk.ended_run(run_id, job={**JOB, "train": {"lr": lr}}) / "out"
    row = {"kind": "val", "epoch": 1, "loss": 0.5, "accuracy": accuracy, "time": MOMENT}
    (out / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    (out / "summary.json").write_text(json.dumps({"val_accuracy": accuracy, "best_epoch": 1}))
    (out / "predictions-val.csv").write_text("image,truth,label,confidence,a,b\n1.jpg,a,a,0.9,0.9,0.1\n")


def row_of(page: str, name: str) -> list[str]:
    """The texts of a row of a table; of the best values with a star."""
    row = re.search(rf"<tr><th scope=\"row\" class=\"name\"><bdi>{name}</bdi></th>(.*?)</tr>", page)
    assert row is not None
    return [
        text + ("*" if "best" in kind else "") for kind, text in re.findall(r'<td class="([^"]*)">(.*?)</td>', row[1])
    ]


def test_one_run_gets_its_page_among_its_results(desk: Desk) -> None:
    trained(desk, "plants-1", accuracy=0.8)
    typed = desk("report", "--json")
    assert typed.json == {"run_id": "plants-1", "report": str(desk.home("plants-1") / "report.html")}
    assert "80.0%" in (desk.home("plants-1") / "report.html").read_text()


def test_several_runs_are_compared_on_one_page(desk: Desk) -> None:
    trained(desk, "plants-1", accuracy=0.8)
    trained(desk, "plants-2", accuracy=0.9, lr=1e-3)
    typed = desk("report", "plants-1", "plants-2", "--json")
    path = desk.folder / "runs" / "compare-plants-1-plants-2.html"
    assert typed.json == {"run_ids": ["plants-1", "plants-2"], "report": str(path)}
    page = path.read_text()
    assert row_of(page, "validation accuracy") == ["80.0%", "90.0%*"]
    assert row_of(page, "lr") == ["3e-4", "0.001"]
    assert row_of(page, "a") == ["1.0000", "1.0000"]
    assert "<title>epoch 1: plants-1 80.0%, plants-2 90.0%</title>" in page
    assert (desk.home("plants-2") / "report.html").is_file()


def test_the_same_run_by_two_names_is_one_run(desk: Desk) -> None:
    trained(desk, "plants-1", accuracy=0.8)
    assert desk("report", "plants-1", "plants").out.strip() == str(desk.home("plants-1") / "report.html")


def test_a_run_without_results_does_not_hide_the_others(desk: Desk) -> None:
    trained(desk, "plants-1", accuracy=0.8)
    desk.ended_run("plants-2", run_uri=None, billed_from=None, phase="failed", exit_code=1, message="no machine")
    typed = desk("report", "plants-1", "plants-2")
    assert typed.code == 0
    assert "plants-2 is compared as far as it is known" in typed.err
    page = Path(typed.out.strip()).read_text()
    assert row_of(page, "validation accuracy") == ["80.0%", "–"]
    assert row_of(page, "state") == ["succeeded", "failed"]


def test_a_run_that_does_not_exist_is_an_error(desk: Desk) -> None:
    trained(desk, "plants-1", accuracy=0.8)
    typed = desk("report", "plants-1", "nosuch")
    assert (typed.code, typed.out) == (1, "")
    assert "there is no run `nosuch`" in typed.err


def test_the_page_of_many_runs_has_a_name_that_a_disk_can_hold() -> None:
    assert page_name(["a", "b"]) == "compare-a-b.html"
    assert page_name([f"{'n' * 24}-1127-abcd{digit}" for digit in range(9)]).endswith("-abcd2-and-6-more.html")


def test_the_page_is_made_when_the_bill_has_ended(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.ended_run(job={**JOB, "lifecycle": {"on_finish": "down", "idle_minutes": 10}})
    there_at_the_end: list[bool] = []
    release = LocalBackend.release

    def look_and_release(backend: LocalBackend, run: Run) -> datetime:
        there_at_the_end.append((desk.home() / "report.html").exists())
        return release(backend, run)

    monkeypatch.setattr(LocalBackend, "release", look_and_release)
    assert desk("down").code == 0
    assert there_at_the_end == [False]
    assert "cost so far" not in (desk.home() / "report.html").read_text()


def test_a_machine_that_is_kept_has_its_page_all_the_same(desk: Desk) -> None:
    desk.ended_run(job={**JOB, "lifecycle": {"on_finish": "keep", "idle_minutes": 10}})
    assert desk("fetch").code == 0
    assert "cost so far" in (desk.home() / "report.html").read_text()


@pytest.fixture
def browser(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A browser that writes down what it is asked to open."""
    program, opened = desk.folder / "browser", desk.folder / "opened"
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > "{opened}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{program} %s")
    monkeypatch.setattr(webbrowser, "_tryorder", None)
    monkeypatch.setattr(webbrowser, "_browsers", {})
    return opened


def test_open_opens_the_page_in_the_browser(desk: Desk, browser: Path) -> None:
    trained(desk, "plants-1", accuracy=0.8)
    assert desk("report", "--open").out.strip() == str(desk.home("plants-1") / "report.html")
    assert browser.read_text() == (desk.home("plants-1") / "report.html").as_uri()


def test_a_computer_without_a_browser_is_told_where_the_page_is(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "_tryorder", [])
    trained(desk, "plants-1", accuracy=0.8)
    typed = desk("report", "--open")
    assert typed.code == 0
    assert "no browser could be started" in typed.err
