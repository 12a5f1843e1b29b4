"""The notifier beside a watchdog: it goes on after another watchdog, and waits for no service."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudrun.notices.channel import channel_of
from cloudrun.protocol.messages import Result
from cloudrun.protocol.words import EndReason
from cloudrun.worker.notifier import Notifier
from tests.support.chat_server import ChatServer
from tests.support.orders import an_order
from tests.support.processes import wait_for

RESULT = Result(EndReason.FINISHED, 0, "finished", "2026-11-24T12:00:00Z", "2026-11-24T13:00:00Z")


@pytest.fixture
def chats() -> Iterator[ChatServer]:
    server = ChatServer()
    yield server
    server.close()


def a_notifier(folder: Path, *urls: str) -> Notifier:
    channels = [channel_of(url) for url in urls]
    return Notifier(folder, an_order("true", max_hours=1.0), channels, billed_s=lambda: 3000.0)


def events(chats: ChatServer) -> list[str]:
    return [posted.json["event"] for posted in chats.posted]


def test_a_notifier_that_is_started_again_says_nothing_twice(tmp_path: Path, chats: ChatServer) -> None:
    first = a_notifier(tmp_path, chats.url)
    first.start()
    first.end()
    RESULT.write(tmp_path / "result.json")
    second = a_notifier(tmp_path, chats.url)
    second.start()
    second.end()
    assert events(chats) == ["started", "budget_80", "finished"]


def test_a_validation_of_an_earlier_attempt_is_no_news_and_half_a_line_is_none_yet(
    tmp_path: Path, chats: ChatServer
) -> None:
    (tmp_path / "out").mkdir()
    metrics = tmp_path / "out" / "metrics.jsonl"
    row = json.dumps({"kind": "val", "epoch": 1, "accuracy": 0.5}) + "\n"
    metrics.write_text(row)
    notifier = a_notifier(tmp_path, chats.url)
    notifier.start()
    with metrics.open("a") as file:
        file.write("not JSON\n" + row[:20])
    wait_for(lambda: len(chats.posted) == 2)
    assert events(chats) == ["started", "budget_80"]
    with metrics.open("a") as file:
        file.write(row[20:])
    notifier.end()
    assert events(chats) == ["started", "budget_80", "validated"]


def test_a_service_that_never_answers_holds_up_neither_the_end_nor_another_channel(
    tmp_path: Path, chats: ChatServer
) -> None:
    chats.hangs_s = 600.0
    quick = ChatServer()
    RESULT.write(tmp_path / "result.json")
    notifier = a_notifier(tmp_path, f"{chats.url}/a", f"{quick.url}/b")
    notifier.start()
    began = time.monotonic()
    notifier.end(patience_s=1.0)
    took_s = time.monotonic() - began
    quick.close()
    assert took_s < 6.0  # the service has 8 seconds to answer, three times
    assert events(quick) == ["started", "finished"]
    assert events(chats) == ["started"]


def test_without_channels_no_thread_looks_and_no_file_is_written(tmp_path: Path) -> None:
    notifier = a_notifier(tmp_path)
    notifier.start()
    notifier.end()
    assert list(tmp_path.iterdir()) == []
