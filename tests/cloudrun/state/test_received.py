"""The door for what a machine says: each kind of badness under each name, and what is made of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cloudrun.files.untrusted import Unreadable, parse_object, read_limited, read_regular
from cloudrun.protocol.metrics import metrics_at
from cloudrun.runs.home_names import name_at_home
from cloudrun.runs.last_word import BadResult, read_progress, read_result
from cloudrun.state.received import Summary, progress_from, question_from, result_from, summary_at, understood
from cloudrun.state.records import Progress, Quote, Result
from cloudrun.stores.directory import DirectoryStore
from tests.support.bad_files import BAD
from tests.support.desk import MOMENT, RESULT, STATUS

NO_FILE = ("a folder", "a pipe", "a socket", "a link to itself")
QUIET = ("400 digits", "half a pair of surrogates", "a link to itself")  # nothing that is used is wrong in them


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_said_to_be_bad_and_nothing_is_made_of_it(tmp_path: Path, kind: str) -> None:
    for name in ("result.json", "status.json", "summary.json", "metrics.jsonl"):
        BAD[kind](tmp_path / name)
    store = DirectoryStore(tmp_path)
    found = read_result(store)
    assert found is None if kind in NO_FILE else isinstance(found, BadResult)
    assert read_progress(store) is None
    summary, trouble = summary_at(tmp_path)
    assert summary == Summary()
    assert bool(trouble) is (kind not in QUIET)
    assert metrics_at(tmp_path)[0] == []


def test_what_is_right_is_read_as_it_is(tmp_path: Path) -> None:
    assert result_from(json.dumps(RESULT).encode()) == Result.model_validate(RESULT)
    assert progress_from(json.dumps({**STATUS, "of a newer worker": 5}).encode()) == Progress.model_validate(STATUS)
    assert question_from(b'{"question": "go on?", "wait_s": 60}').wait_s == 60
    assert summary_at(tmp_path) == (Summary(), "")
    assert metrics_at(tmp_path) == ([], "")


@pytest.mark.parametrize(
    "changes",
    [
        {"exit_code": "seven"}, {"exit_code": 10**30}, {"exit_code": None}, {"started_at": "2026-11-24T12:00:00"},
        {"finished_at": "9999-12-31T23:59:59-12:00"}, {"finished_at": -1e300}, {"message": 5}, {"reason": ["failed"]},
    ],
)  # fmt: skip
def test_a_result_with_a_wrong_field_names_it(changes: dict[str, object]) -> None:
    with pytest.raises(Unreadable, match=next(iter(changes))):
        result_from(json.dumps({**RESULT, **changes}).encode())


@pytest.mark.parametrize("asked", [{}, {"question": "?", "wait_s": 1e9}, {"question": "?", "wait_s": float("nan")}])
def test_a_question_without_an_end_is_none(asked: dict[str, object]) -> None:
    with pytest.raises(Unreadable):
        question_from(json.dumps(asked).encode())


def test_a_message_without_end_is_cut() -> None:
    assert len(result_from(json.dumps({**RESULT, "message": "x" * 900_000}).encode()).message) == 2000


def test_texts_can_be_written_and_numbers_are_floats_where_they_are_too_long() -> None:
    found = parse_object(b'{"a\\ud800": "b\\udfff", "n": 1' + b"0" * 9000 + b"}")
    assert json.dumps(found, ensure_ascii=False).encode()
    assert found["n"] == float("inf")


def test_a_pipe_is_not_waited_for_and_a_device_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read_regular(tmp_path / "pipe") is None
    with pytest.raises(Unreadable, match="neither a file nor a folder"):
        read_limited(Path("/dev/zero"), 10)


def test_unknown_fields_are_left_out_wherever_they_are() -> None:
    quote = {
        "machine": "p4d", "infra": "aws", "region": None, "gpu": None, "spot": False, "hourly_usd": 3.6,
        "source": "test", "as_of": MOMENT,
    }  # fmt: skip
    assert understood(Quote, {**quote, "new": 1}) == (Quote.model_validate(quote), ())
    with pytest.raises(Unreadable, match="hourly_usd"):
        understood(Quote, {**quote, "hourly_usd": float("nan")})


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("out/checkpoints/best.pt", "checkpoints/best.pt"),
        ("out/log.txt", "out/log.txt"),
        ("out/log.txt/x", "out/log.txt/x"),
        ("out/summary.json", "summary.json"),
        ("out/summary.json/x", "out/summary.json/x"),
        ("out/out/log.txt", "out/out/log.txt"),
        ("out/renamed/x", "out/renamed/x"),
        ("out/a/summary.json", "a/summary.json"),
    ],
)
def test_a_file_comes_home_under_a_name_that_nothing_else_has(key: str, name: str) -> None:
    assert name_at_home(key) == name


@pytest.mark.parametrize(
    "key",
    [
        "out/../../etc/passwd",
        "out//etc/passwd",
        "out/a/./b",
        "out/",
        "out/" + "x" * 300,
        "out/" + "d/" * 80 + "f",
        "out/a\0b",
    ],
)
def test_an_impossible_name_becomes_a_possible_one(tmp_path: Path, key: str) -> None:
    name = name_at_home(key)
    assert name.startswith("renamed/")
    assert name != name_at_home(key + "2")
    target = tmp_path / name
    target.parent.mkdir()
    target.write_text("it can be written")
    assert target.resolve().parent == tmp_path.resolve() / "renamed"
