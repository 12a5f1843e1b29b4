"""What each service is sent, against stand-ins that take only its own form; and what cannot be delivered."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from cloudrun.notices.channel import BadAddress, Channel, Event, Kind, as_text, channel_of, from_text
from cloudrun.notices.payload import Notice
from cloudrun.notices.send import NotDelivered, deliver
from tests.support.chat_server import SECRET, ChatServer
from tests.support.mailbox import Mailbox

NOTICE = Notice("plants-1", Event.FAILED, "the job <!channel> ended with 3\x1b[31m", {"cost_usd": 1.25})
TEXT = "plants-1: failed\nthe job <!channel> ended with 3 [31m"


@pytest.fixture
def chats() -> Iterator[ChatServer]:
    server = ChatServer()
    yield server
    server.close()


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()
    yield box
    box.close()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (Kind.SLACK, {"text": TEXT.replace("<!channel>", "&lt;!channel&gt;")}),
        (Kind.DISCORD, {"content": TEXT, "allowed_mentions": {"parse": []}}),
        (Kind.WECOM, {"msgtype": "text", "text": {"content": TEXT}}),
        (
            Kind.JSON,
            {
                "run_id": "plants-1", "event": "failed", "title": "plants-1: failed", "text": NOTICE.text,
                "cost_usd": 1.25,
            },
        ),
    ],
)  # fmt: skip
def test_a_webhook_gets_its_services_form(chats: ChatServer, kind: Kind, content: object) -> None:
    deliver(channel_of(f"{chats.url}/{kind}", kind=kind), NOTICE)
    (posted,) = chats.posted
    assert posted.json == content
    assert posted.headers["Content-Type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("kind", "address"), [(Kind.FEISHU, "/feishu/hook/TOKEN"), (Kind.DINGTALK, "/dingtalk?access_token=TOKEN")]
)
def test_a_service_that_checks_signatures_takes_a_signed_message_alone(
    chats: ChatServer, kind: Kind, address: str
) -> None:
    deliver(channel_of(chats.url + address, kind=kind, secret=SECRET), NOTICE)
    for secret in ("", "SEC999"):
        with pytest.raises(NotDelivered, match=r"^code (19021|310000)$"):
            deliver(channel_of(chats.url + address, kind=kind, secret=secret), NOTICE)
    assert len(chats.posted) == 3  # a refusal is no reason to try again


def test_ntfy_gets_text_with_title_priority_and_token(chats: ChatServer) -> None:
    deliver(channel_of(f"{chats.url.replace('http', 'ntfy')}/my-topic", secret="tk_1"), NOTICE)
    (posted,) = chats.posted
    assert (posted.path, posted.body.decode()) == ("/my-topic", "the job <!channel> ended with 3 [31m")
    wanted = {"Title": "plants-1: failed", "Priority": "high", "Authorization": "Bearer tk_1"}
    assert {name: posted.headers[name] for name in wanted} == wanted


def test_a_mail_has_sender_recipients_subject_and_text(mailbox: Mailbox) -> None:
    mailbox.password = b"pass word"
    url = f"smtp://me%40example.org@127.0.0.1:{mailbox.port}?to=you@example.org,they@example.org"
    deliver(channel_of(url, secret="pass word"), NOTICE)
    (mail,) = mailbox.mails
    assert "Subject: cloudrun: plants-1: failed" in mail
    assert "From: me@example.org" in mail
    assert mailbox.recipients == ["you@example.org", "they@example.org"]
    body = mail.partition("\n\n")[2]
    if "base64" in mail:
        body = base64.b64decode(body).decode()
    assert body.strip() == TEXT


def test_a_mail_server_that_refuses_the_password_is_named_by_that(mailbox: Mailbox) -> None:
    mailbox.password = b"right"
    url = f"smtp://me%40example.org@127.0.0.1:{mailbox.port}?to=you@example.org"
    with pytest.raises(NotDelivered, match=r"^SMTPAuthenticationError$"):
        deliver(channel_of(url, secret="wrong"), NOTICE)
    assert mailbox.mails == []


def test_the_desktop_is_told_by_its_own_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("notify-send", "osascript"):
        (tmp_path / name).write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/shown\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    deliver(channel_of("desktop"), NOTICE)
    assert "plants-1: failed" in (tmp_path / "shown").read_text()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(NotDelivered, match="is not installed"):
        deliver(channel_of("desktop"), NOTICE)


def test_a_service_that_is_busy_is_asked_again_and_one_that_refuses_is_not(chats: ChatServer) -> None:
    pauses: list[float] = []
    channel = channel_of(f"{chats.url}/secret-token")
    chats.statuses = [503, 429]
    deliver(channel, NOTICE, sleep=pauses.append)
    assert (len(chats.posted), pauses) == (3, [2.0, 8.0])
    chats.statuses = [404]
    with pytest.raises(NotDelivered, match=r"^HTTP 404$"):
        deliver(channel, NOTICE, sleep=pauses.append)
    chats.statuses = [503, 503, 503]
    with pytest.raises(NotDelivered, match=r"^HTTP 503$"):
        deliver(channel, NOTICE, sleep=pauses.append)


def test_an_address_that_leads_elsewhere_is_not_followed(chats: ChatServer) -> None:
    chats.statuses = [302]
    with pytest.raises(NotDelivered, match=r"^HTTP 302$"):
        deliver(channel_of(f"{chats.url}/hook"), NOTICE)
    assert [posted.path for posted in chats.posted] == ["/hook"]


def test_a_failure_tells_nothing_of_the_address() -> None:
    channel = channel_of("http://127.0.0.1:1/secret-token", secret="s3cret")
    with pytest.raises(NotDelivered) as failure:
        deliver(channel, NOTICE, sleep=lambda _: None)
    assert str(failure.value) == "Connection refused"
    assert "secret-token" not in f"{channel} {channel!r}"
    assert "s3cret" not in f"{channel} {channel!r}"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.slack.com/services/T/B/x", "slack at hooks.slack.com"),
        ("https://discord.com/api/webhooks/1/x", "discord at discord.com"),
        ("https://open.feishu.cn/open-apis/bot/v2/hook/x", "feishu at open.feishu.cn"),
        ("https://open.larksuite.com/open-apis/bot/v2/hook/x", "feishu at open.larksuite.com"),
        ("https://oapi.dingtalk.com/robot/send?access_token=x", "dingtalk at oapi.dingtalk.com"),
        ("https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=x", "wecom at qyapi.weixin.qq.com"),
        ("https://ntfy.sh/topic", "ntfy at ntfy.sh"),
        ("ntfys://ntfy.example.org/topic", "ntfy at ntfy.example.org"),
        ("https://me.example.org/hook", "json at me.example.org"),
        ("smtps://a%40b.org@mail.b.org?to=c@d.org", "email at mail.b.org"),
        ("desktop", "desktop"),
    ],
)
def test_an_address_shows_its_service(url: str, shown: str) -> None:
    channel = channel_of(url)
    assert str(channel) == shown
    assert from_text(as_text([channel])) == [channel]


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks.slack.com/x", "https://", "https://a b", "ftp://a/b", "https://ntfy.sh", "mailto:a@b.org",
        "smtp://mail.b.org", "smtp://mail.b.org?to=c@d.org", "smtps://a%40b.org:pw@mail.b.org?to=c@d.org",
        "smtps://a%40b.org@mail.b.org?to=c@d.org%0aBcc:e@f.org", "https://host:port/x", "https://[/x",
    ],
)  # fmt: skip
def test_an_address_to_which_nothing_can_be_sent_is_refused_without_a_word_of_it(url: str) -> None:
    with pytest.raises(BadAddress) as refused:
        channel_of(url)
    assert url in ("", "https://", "https://ntfy.sh") or url not in str(refused.value)


def test_a_long_chinese_text_fits_into_wecoms_2048_bytes(chats: ChatServer) -> None:
    deliver(channel_of(f"{chats.url}/wecom?key={quote('x')}", kind=Kind.WECOM), Notice("r", Event.FAILED, "叶" * 3000))


def test_a_secret_with_a_line_break_is_refused() -> None:
    with pytest.raises(BadAddress, match="line breaks"):
        channel_of("https://ntfy.sh/topic", secret="a\nb")
    assert Channel(Kind.DESKTOP, "").host == ""
