"""Write a notice in the form that each service takes. Pure.

Sources: api.slack.com/messaging/webhooks; discord.com/developers/docs/resources/webhook;
open.feishu.cn/document/client-docs/bot-v3/add-custom-bot; open.dingtalk.com/document/robots/custom-robot-access;
developer.work.weixin.qq.com/document/path/91770; docs.ntfy.sh/publish.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any
from urllib.parse import quote_plus, urlsplit, urlunsplit

from cloudrun.notices.channel import Channel, Event, Kind, recipients, sender

_LONGEST_LETTERS = 600  # WeCom takes 2048 bytes, and a letter may have three
_URGENT = (Event.FAILED, Event.BUDGET, Event.PREEMPTED, Event.STILL_BILLING)


@dataclass(frozen=True)
class Notice:
    """A message about a run; `facts` are numbers and texts for programs, by names with their unit."""

    run_id: str
    event: Event
    text: str
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.run_id}: {self.event.value.replace('_', ' ')}"

    @property
    def whole(self) -> str:
        """Title and text, shortened, without control characters."""
        plain = "".join(letter if letter.isprintable() else " " for letter in f"{self.title}\n{self.text}")
        head, text = plain[: len(self.title)], plain[len(self.title) + 1 :]
        whole = f"{head}\n{text}".strip()
        return whole if len(whole) <= _LONGEST_LETTERS else whole[: _LONGEST_LETTERS - 3] + "..."


@dataclass(frozen=True)
class Request:
    """A POST: its address may hold a secret."""

    url: str = field(repr=False)
    body: bytes
    headers: dict[str, str] = field(repr=False)


def request_for(channel: Channel, notice: Notice, *, now: float) -> Request:
    """Return the POST for a channel of the web; `now`: Unix time, which signatures hold."""
    if channel.kind is Kind.NTFY:
        return _ntfy(channel, notice)
    url, content = channel.url, _content(channel, notice, now)
    if channel.kind is Kind.DINGTALK and channel.secret:
        stamp = str(round(now * 1000))
        sign = _signature(channel.secret.encode(), f"{stamp}\n{channel.secret}".encode())
        parts = urlsplit(url)
        query = "&".join(filter(None, (parts.query, f"timestamp={stamp}", f"sign={quote_plus(sign)}")))
        url = urlunsplit(parts._replace(query=query))
    return Request(url, json.dumps(content).encode(), {"Content-Type": "application/json; charset=utf-8"})


def refusal(channel: Channel, body: bytes) -> str:
    """Return why a service that answered 200 has taken nothing: its code; empty where it has taken the message."""
    if channel.kind not in (Kind.FEISHU, Kind.DINGTALK, Kind.WECOM):
        return ""
    try:
        answer = json.loads(body)
        codes = [answer.get(name) for name in ("code", "StatusCode", "errcode")]
    except (ValueError, AttributeError):
        return "an answer that is not the service's"
    code = next((code for code in codes if code is not None), None)
    return "" if code == 0 else f"code {str(code)[:20]}"


def mail_for(channel: Channel, notice: Notice) -> EmailMessage:
    """Return the notice as a mail."""
    mail = EmailMessage()
    mail["Subject"] = f"cloudrun: {notice.title}"
    mail["From"] = sender(channel.url)
    mail["To"] = ", ".join(recipients(channel.url))
    mail.set_content(notice.whole + "\n")
    return mail


def _content(channel: Channel, notice: Notice, now: float) -> dict[str, Any]:
    text = notice.whole
    match channel.kind:
        case Kind.SLACK:  # its three letters of markup; else a run's message could call a whole channel
            return {"text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}
        case Kind.DISCORD:
            return {"content": text, "allowed_mentions": {"parse": []}}
        case Kind.FEISHU:
            signed = {}
            if channel.secret:
                stamp = str(round(now))
                signed = {"timestamp": stamp, "sign": _signature(f"{stamp}\n{channel.secret}".encode(), b"")}
            return {**signed, "msg_type": "text", "content": {"text": text}}
        case Kind.DINGTALK:
            return {"msgtype": "text", "text": {"content": text}}
        case Kind.WECOM:
            return {"msgtype": "text", "text": {"content": text}}
        case _:
            told = {"run_id": notice.run_id, "event": notice.event.value, "title": notice.title, "text": notice.text}
            return {**told, **notice.facts}


def _ntfy(channel: Channel, notice: Notice) -> Request:
    parts = urlsplit(channel.url)
    scheme = {"ntfy": "http", "ntfys": "https"}.get(parts.scheme, parts.scheme)
    headers = {
        "Title": notice.title,
        "Priority": "high" if notice.event in _URGENT else "default",
        "Tags": "warning" if notice.event in _URGENT else "seedling",
    }
    if channel.secret:
        headers["Authorization"] = f"Bearer {channel.secret}"
    text = notice.whole.partition("\n")[2] or notice.title
    return Request(urlunsplit(parts._replace(scheme=scheme)), text.encode(), headers)


def _signature(key: bytes, message: bytes) -> str:
    return base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()
