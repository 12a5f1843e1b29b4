"""An answer is not waited for longer than its limit."""

from __future__ import annotations

import threading
import time

import pytest

from cloudrun.backends.patience import NoAnswerYet, within


def test_an_answer_in_time_is_returned() -> None:
    assert within(5, lambda: 7) == 7


def test_what_the_question_raises_is_raised() -> None:
    def refuse() -> None:
        raise KeyError("no such machine")

    with pytest.raises(KeyError, match="no such machine"):
        within(5, refuse)


def test_an_answer_that_does_not_come_is_given_up() -> None:
    never = threading.Event()
    began = time.monotonic()
    with pytest.raises(NoAnswerYet, match="no answer within 0 s"):
        within(0.1, never.wait)
    assert time.monotonic() - began < 3
    never.set()
