"""Commands of the user's own that write over the worker's files, with real processes on this computer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cloudrun.files.untrusted import read_object
from cloudrun.protocol.messages import Timing, replace_text
from cloudrun.worker.corrected_estimate import correct
from cloudrun.worker.status_files import last_word, record_crash
from tests.support.bad_files import BAD
from tests.support.orders import an_order
from tests.support.shell import Shell

JOB = """\
name: odd
infra: local
data: {source: .}
run: |
  cd $CLOUDRUN_OUTPUT
  echo weights > best.pt
"""
OBJECTS = ("400 digits", "half a pair of surrogates")  # they are what JSON may be; nothing of them is used


def home_of(shell: Shell) -> Path:
    (folder,) = (shell.folder / "runs").iterdir()
    return folder


def test_a_job_that_writes_all_kinds_of_nonsense_comes_home_and_ends_its_bill(shell: Shell) -> None:
    nonsense = """\
  echo '{"train_seconds": NaN, "images_per_s": "fast", "findings": 5, "val_accuracy": 0.5}' > summary.json
  printf '{"kind": "val", "epoch": 1, "loss": 1%0400d, "time": "2026-11-24T12:00:00Z"}\\n' 0 > metrics.jsonl
  mkdir log.txt report.html predictions.csv
  echo x | tee log.txt/x report.html/x predictions.csv/x > $(printf 'l%.0s' $(seq 250))
  mkfifo pipe progress.json
  cd ..
  echo garbage > question.json
  mkdir home
"""
    launched = shell("launch", "--yes", shell.job(JOB + nonsense))
    assert launched.code == 0, launched.err
    assert "nothing is billing" in launched.err
    home = home_of(shell)
    for name in ("best.pt", "l" * 250, "out/log.txt/x", "out/report.html/x", "out/predictions.csv/x", "report.html"):
        assert (home / name).is_file(), name
    assert shell("down", "--all").code == 0
    (cost,) = shell("cost", "--json").json
    assert cost["is_final"] is True
    assert list((shell.home / "local").iterdir()) == []


def test_a_result_that_the_job_wrote_is_believed_no_more_than_its_end(shell: Shell) -> None:
    """Garbage while the worker lives is no end: the worker writes it again, over a folder, too."""
    launched = shell("launch", "--yes", shell.job(JOB + "  echo '{]' > ../result.json; sleep 3; echo 2 > second\n"))
    assert launched.code == 0, launched.err
    assert (home_of(shell) / "second").is_file()
    assert not (home_of(shell) / "result.json.unreadable").exists()


def test_a_worker_that_died_beside_an_unreadable_result_ends_with_an_unknown_end(shell: Shell) -> None:
    dies = "  cd ..; echo '{]' > result.json; kill -9 $(cat worker.pid) $(cat attempt.pid)\n"
    launched = shell("launch", "--yes", "--json", shell.job(JOB + dies))
    assert launched.code == 1, launched.err
    assert (launched.json["phase"], launched.json["exit_code"]) == ("failed", 1)
    assert "how it ended is not known: its result.json cannot be read" in launched.err
    assert (home_of(shell) / "result.json.unreadable").read_text() == "{]\n"
    assert (home_of(shell) / "best.pt").is_file()
    assert shell("ps", "--json").json == []


def test_a_run_that_overwrote_its_result_is_not_taken_for_ended_by_a_fetch(shell: Shell) -> None:
    waits = "  echo '{]' > ../result.json; until [ -e go ]; do sleep 0.1; done; echo 2 > second\n"
    run_id = shell("launch", "-d", "--yes", shell.job(JOB + waits)).out.strip()
    place = shell.home / "local" / run_id
    wait_for(place / "result.json")
    (shown,) = shell("ps", "--json").json
    assert shown["phase"] == "running"
    assert shell("fetch").code == 0
    assert not (place / "home").exists()  # by which the watchdog may end a machine
    (place / "out" / "go").touch()
    assert shell("logs").code == 0
    assert shell("down").code == 0
    assert (home_of(shell) / "second").is_file()


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("kind", BAD)
def test_the_worker_reads_what_the_job_tells_without_waiting_or_breaking(tmp_path: Path, kind: str) -> None:
    BAD[kind](tmp_path / "progress.json")
    assert (read_object(tmp_path / "progress.json") is not None) is (kind in OBJECTS)


def test_the_worker_writes_its_last_word_where_the_job_has_made_a_folder_of_it(tmp_path: Path) -> None:
    (tmp_path / "result.json").mkdir()
    (tmp_path / "result.json" / "kept").touch()
    replace_text(tmp_path / "result.json", "{}")
    assert (tmp_path / "result.json").read_text() == "{}"
    (aside,) = tmp_path.glob("result.json.folder-*")
    assert (aside / "kept").is_file()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400, -1, "many", None, [1]])
@pytest.mark.parametrize("key", ["timed_steps", "timed_s", "steps_left", "evaluation_left_s"])
def test_a_timing_without_end_foretells_nothing(key: str, number: object) -> None:
    timing = {
        "timed_steps": 50, "timed_s": 5.0, "steps_left": 100, "evaluation_left_s": 1.0, "steps_per_epoch": 50,
        "evaluation_is_measured": True,
    }  # fmt: skip
    assert correct(Timing.read(timing), an_order("true"), 10.0) is not None
    assert correct(Timing.read({**timing, key: number}), an_order("true"), 10.0) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "{]", "{}", "[1]", '"finished"', '{"reason": "finished"}', '{"reason": 5, "exit_code": 0}',
        '{"reason": "finished", "exit_code": "0"}', '{"reason": "finished", "exit_code": 1e400}',
        '{"reason": "finished", "exit_code": true}', '{"reason": "finished", "exit_code": 99999999999}',
    ],
)  # fmt: skip
def test_what_a_job_writes_over_the_result_is_no_end_of_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    assert last_word(tmp_path) is None


@pytest.mark.parametrize(
    "status",
    [
        '{"phase_began": "soon", "phase": "run"}', '{"phase_began": NaN}', '{"phase_began": 1e300, "phases": 5}',
        '{"phase_began": -1, "phases": {"a": 1}}', '{"phase_began": true}', "[]", "{]",
    ],
)  # fmt: skip
def test_a_dead_attempt_is_recorded_whatever_its_status_says(tmp_path: Path, status: str) -> None:
    (tmp_path / "status.json").write_text(status)
    (tmp_path / "stop").write_text('{"message": 5}')
    record_crash(tmp_path, "its worker was killed")
    word = last_word(tmp_path)
    assert word is not None
    assert word.message == "5; its worker was killed"
