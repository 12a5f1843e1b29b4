"""Commands as typed: how a mistake ends, what all of them say, and what the small ones print."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.local_jobs import TINY
from tests.support.shell import Shell, images


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["launch", "nosuch.yaml"], 2, "there is no job file"),
        (["lunch"], 2, "launch"),
        (["launch", "--gpuu", "A100:1", "job.yaml"], 2, "--gpu"),
        (["logs", "nosuch"], 1, "no run"),
        (["down", "nosuch"], 1, "no run"),
        (["launch", "job.yaml", "--set", "nonsense"], 2, "KEY=VALUE"),
        (["launch", "job.yaml", "--set", "data.source=missing"], 2, "there is no folder"),
        (["logs", "--since", "soon"], 2, "90s, 30m"),
    ],
)
def test_a_mistake_ends_with_its_code_and_two_lines(shell: Shell, words: list[str], code: int, said: str) -> None:
    shell.job(TINY)
    done = shell(*words)
    assert done.code == code
    assert done.out == ""
    assert re.search(r"^error: .+\n\nhint: .+$", done.err, re.MULTILINE)
    assert said in done.err
    assert "Traceback" not in done.err
    assert not list((shell.home / "ledger").glob("*.json"))


@pytest.mark.parametrize(
    "command",
    [
        "launch",
        "logs",
        "fetch",
        "down",
        "ps",
        "cost",
        "report",
        "gpus",
        "check",
        "resume",
        "ssh",
        "init",
        "watch",
        "clouds",
    ],
)
def test_every_command_shows_an_example(shell: Shell, command: str) -> None:
    done = shell(command, "--help")
    assert done.code == 0
    assert f"cloudrun {command}" in done.out.split("Example:")[1]


def test_every_command_warns_of_another_run_that_bills_past_its_estimate(shell: Shell) -> None:
    run_id = shell("launch", shell.job(TINY)).out.strip()
    path = shell.home / "ledger" / f"{run_id}.json"
    record = json.loads(path.read_text())
    quote = {**record["quote"], "hourly_usd": 1.29}
    made = {**record["estimate"], "low_usd": 0.01, "high_usd": 0.02} if record["estimate"] else None
    part = {"name": "train", "low_s": 10.0, "high_s": 60.0}
    made = made or {"parts": [part], "low_s": 10.0, "high_s": 60.0, "low_usd": 0.01, "high_usd": 0.02, "rests_on": "x"}
    forgotten = {
        **record, "run_id": "old-1124-aaaaa", "backend": "sky", "quote": quote, "estimate": made,
        "billed_from": "2026-11-01T00:00:00Z", "released_at": None, "handed_over": True,
    }  # fmt: skip
    (path.parent / "old-1124-aaaaa.json").write_text(json.dumps(forgotten))
    said = shell("cost", run_id).err
    assert "old-1124-aaaaa may be billing past its estimate" in said
    assert "`cloudrun down old-1124-aaaaa` ends it" in said
    path.with_name("old-1124-aaaaa.json").unlink()


def test_a_place_that_cannot_be_written_is_an_error_and_not_a_bug(shell: Shell) -> None:
    (shell.folder / "file").touch()
    shell.env["CLOUDRUN_HOME"] = str(shell.folder / "file" / "home")
    done = shell("launch", shell.job(TINY))
    assert done.code == 1
    assert "Traceback" not in done.err


def test_the_receipt_says_what_was_billed(shell: Shell) -> None:
    run_id = shell("launch", shell.job(TINY)).out.strip()
    receipt = shell("cost", "--json").json[0]
    assert receipt["run_id"] == run_id
    assert (receipt["infra"], receipt["cost_usd"], receipt["is_final"]) == ("local", 0.0, True)
    assert "total" in shell("cost").out


def test_the_report_needs_nothing_from_elsewhere(shell: Shell) -> None:
    shell("launch", shell.job(TINY))
    page = Path(shell("report").out.strip()).read_text()
    assert "<svg" in page or "No epoch is over yet" in page
    assert not re.search(r"(src|href)=['\"]?https?:", page)


def test_a_job_file_is_not_written_for_a_gpu_that_no_cloud_has(shell: Shell) -> None:
    images(shell.folder / "leaves")
    assert shell("init", "leaves", "--gpu", "NOPE:1").code == 2
    assert not (shell.folder / "jobs").exists()


def test_a_sweep_is_refused_with_a_way_out(shell: Shell) -> None:
    done = shell("sweep", "sweep.yaml")
    assert (done.code, "not supported yet" in done.err) == (2, True)
