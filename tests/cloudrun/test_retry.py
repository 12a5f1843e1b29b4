"""Trying again: how often, and after which pauses."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cloudrun import retry


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", pauses.append)
    return pauses


class Fails:
    """Fails the first `times` calls."""

    def __init__(self, times: int) -> None:
        self._times = times
        self._calls = 0

    def __call__(self) -> str:
        self._calls += 1
        if self._calls <= self._times:
            raise ConnectionError(self._calls)
        return f"call {self._calls}"


def _attempted(action: Fails, pauses_s: Sequence[float]) -> str:
    return retry.attempted(action, failing_by=(ConnectionError,), pauses_s=pauses_s)


def test_what_works_the_first_time_is_not_waited_for(slept: list[float]) -> None:
    assert _attempted(Fails(0), (1.0, 3.0)) == "call 1"
    assert slept == []


def test_each_pause_comes_before_one_more_try(slept: list[float]) -> None:
    assert _attempted(Fails(2), (1.0, 3.0)) == "call 3"
    assert slept == [1.0, 3.0]


def test_the_last_failure_is_raised_at_once(slept: list[float]) -> None:
    with pytest.raises(ConnectionError, match="3"):
        _attempted(Fails(3), (1.0, 3.0))
    assert slept == [1.0, 3.0]


def test_pauses_double_up_to_the_longest() -> None:
    assert retry.doubled(0.5, 4) == (0.5, 1.0, 2.0, 4.0)
    assert retry.doubled(1.0, 4, longest_s=3.0) == (1.0, 2.0, 3.0, 3.0)


def test_a_backoff_stays_at_its_longest_pause_until_something_succeeds() -> None:
    backoff = retry.Backoff((1.0, 2.0))
    assert [backoff.failed() for _ in range(3)] == [1.0, 2.0, 2.0]
    assert backoff.failures == 3
    backoff.succeeded()
    assert backoff.failed() == 1.0
