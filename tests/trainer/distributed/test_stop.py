"""What a signal does to a run, beside the kills of whole runs in `test_train.py` and `benchmarks.kills`."""

import queue
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from trainer.distributed.stop import StopFlag
from trainer.errors import StoppedEarly


@pytest.fixture
def stop() -> Iterator[StopFlag]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    flag = StopFlag()
    flag.listen()
    yield flag
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_waits_for_the_end_of_a_step(stop: StopFlag) -> None:
    signal.raise_signal(signal.SIGTERM)
    assert stop.is_set()
    with pytest.raises(StoppedEarly, match="stopped by SIGTERM"):
        stop.raise_if_set()


def test_work_of_which_nothing_is_kept_is_ended_by_another_thread(stop: StopFlag) -> None:
    ended: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    with stop.at_once(lambda name: ended.put((name, threading.current_thread().name))):
        signal.raise_signal(signal.SIGINT)  # raises nothing here: it might be in the middle of anything
        assert ended.get(timeout=10) == ("SIGINT", "stop")
    with pytest.raises(StoppedEarly, match="stopped by SIGINT"):  # where it could not end the process
        stop.raise_if_set()


def test_a_signal_in_the_moment_of_the_beginning_is_heard() -> None:
    class Late(StopFlag):
        def raise_if_set(self) -> None:
            super().raise_if_set()
            self._receive(signal.SIGTERM, None)

    ended: queue.SimpleQueue[str] = queue.SimpleQueue()
    with Late().at_once(ended.put):
        assert ended.get(timeout=10) == "SIGTERM"


def test_no_other_work_begins_while_it_is_ended(stop: StopFlag) -> None:
    is_ended = False

    def end(_: str) -> None:
        nonlocal is_ended
        time.sleep(0.2)
        is_ended = True

    with stop.at_once(end):
        signal.raise_signal(signal.SIGTERM)
    assert is_ended


def test_a_signal_after_such_work_waits_for_the_end_of_a_step(stop: StopFlag) -> None:
    ended: list[str] = []
    with stop.at_once(ended.append):
        pass
    signal.raise_signal(signal.SIGTERM)
    assert stop.is_set()
    with pytest.raises(StoppedEarly), stop.at_once(ended.append):
        pytest.fail("began although it was asked to stop")
    assert ended == []
