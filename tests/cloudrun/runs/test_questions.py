"""What a run's worker asks whoever follows it, and a question that nobody can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest

from cloudrun.backends import Backend
from cloudrun.runs.console import Console
from cloudrun.runs.context import Context
from cloudrun.runs.follow import LogReader, follow
from cloudrun.state.records import JobState
from cloudrun.stores import open_store
from tests.support.backends import OneMachine
from tests.support.runs import rented

GOOD = json.dumps({"question": "go on?", "wait_s": 60}).encode()


class Followed:
    """A run that is followed at a terminal for ten looks."""

    def __init__(self, folder: Path, home: Path, question: bytes) -> None:
        folder.mkdir()
        (folder / "question.json").write_bytes(question)
        ledger, run = rented(home, run_uri=folder.as_uri(), backend="local")
        self.asked: list[str] = []
        self.said: list[str] = []
        self.looks = 0

        def enough() -> bool:
            self.looks += 1
            return self.looks > 5

        def ask(question: str, _: float) -> bool:
            self.asked.append(question)
            return True

        console = Console(say=self.said.append, ask=ask)
        context = Context(ledger, cast("Backend", OneMachine(JobState.ACTIVE)), console)
        follow(run, context, reader=LogReader(open_store(folder.as_uri())), until=enough, answers_questions=True)


def test_a_question_is_asked_once_and_its_answer_is_written(tmp_path: Path) -> None:
    followed = Followed(tmp_path / "run", tmp_path / "home", GOOD)
    assert (followed.asked, followed.said) == (["go on?"], [])
    assert (tmp_path / "run" / "answer").read_bytes() == b"yes"


@pytest.mark.parametrize(
    ("question", "why"),
    [
        (b"garbage", "not JSON: it begins with 'garbage'"),
        (b"", "empty"),
        (b'["go on?"]', "no JSON object, but a list"),
        (b'{"question": "go on?", "wait_s": NaN}', "`wait_s`: input should be"),
        (b'{"wait_s": 60}', "`question`: field required"),
    ],
)
def test_a_question_that_cannot_be_read_is_told_once_and_the_run_is_followed_on(
    question: bytes, why: str, tmp_path: Path
) -> None:
    followed = Followed(tmp_path / "run", tmp_path / "home", question)
    assert followed.asked == []
    (said,) = followed.said
    assert said.startswith(f"{(tmp_path / 'run').as_uri()}/question.json cannot be read ({why}")
    assert followed.looks == 6
