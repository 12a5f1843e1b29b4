"""Addresses that are told how a run goes: which service each belongs to, and what may be shown of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import parse_qs, unquote, urlsplit

from cloudrun.protocol.words import EndReason

VARIABLE = "CLOUDRUN_NOTICES_TO"
"""The name under which the channels of a run reach its watchdog, which takes them out of its environment."""


class Kind(str, Enum):
    """The services whose messages have a form of their own; `json` is for every other web address."""

    SLACK = "slack"
    DISCORD = "discord"
    FEISHU = "feishu"  # and Lark
    DINGTALK = "dingtalk"
    WECOM = "wecom"
    NTFY = "ntfy"
    JSON = "json"
    EMAIL = "email"
    DESKTOP = "desktop"

    def __str__(self) -> str:
        return str(self.value)


class Event(str, Enum):
    """What a channel is told."""

    STARTED = "started"
    VALIDATED = "validated"  # the first validation
    BUDGET_80 = "budget_80"  # 80 % of the budget is used
    FINISHED = EndReason.FINISHED.value
    FAILED = EndReason.FAILED.value
    BUDGET = EndReason.BUDGET.value  # stopped by its budget
    PREEMPTED = EndReason.PREEMPTED.value
    STOPPED = EndReason.STOPPED.value  # somebody asked
    STILL_BILLING = "still_billing"  # the job has ended, and its machine waits
    TEST = "test"

    def __str__(self) -> str:
        return str(self.value)


EVENTS = tuple(event for event in Event if event is not Event.TEST)
"""What a job file can ask for."""

_HOSTS = {
    "hooks.slack.com": Kind.SLACK,
    "discord.com": Kind.DISCORD,
    "discordapp.com": Kind.DISCORD,
    "open.feishu.cn": Kind.FEISHU,
    "open.larksuite.com": Kind.FEISHU,
    "oapi.dingtalk.com": Kind.DINGTALK,
    "qyapi.weixin.qq.com": Kind.WECOM,
    "ntfy.sh": Kind.NTFY,
}
_MAIL, _NTFY, _WEB = ("smtp", "smtps"), ("ntfy", "ntfys"), ("http", "https")


class BadAddress(ValueError):
    """An address to which nothing can be sent. The message never holds the address, which may be a secret."""


@dataclass(frozen=True)
class Channel:
    """One address; `secret` signs messages (DingTalk, Feishu), or is a token (ntfy) or a password (mail)."""

    kind: Kind
    url: str = field(repr=False)
    secret: str = field(default="", repr=False)
    events: tuple[Event, ...] = EVENTS

    @property
    def host(self) -> str:
        """The part of the address that may be shown."""
        return "" if self.kind is Kind.DESKTOP else urlsplit(self.url).hostname or ""

    def __str__(self) -> str:
        return f"{self.kind} at {self.host}" if self.host else str(self.kind)


def channel_of(url: str, *, kind: Kind | None = None, secret: str = "", events: tuple[Event, ...] = EVENTS) -> Channel:
    """Return the channel of an address; of `kind`, or of the kind that its address shows. Raises BadAddress."""
    if url == Kind.DESKTOP or kind is Kind.DESKTOP:
        return Channel(Kind.DESKTOP, "", "", events)
    if not re.fullmatch(r"[ -~]*", secret):
        raise BadAddress("a `secret` has line breaks, or letters beyond ASCII")
    if not re.fullmatch(r"[!-~]+", url):
        raise BadAddress("an address is empty, or has spaces or letters that belong into no address")
    try:
        parts = urlsplit(url)
        host, scheme, _ = parts.hostname, parts.scheme.lower(), parts.port
    except ValueError:
        raise BadAddress("an address has no host and port that can be read") from None
    if scheme == "mailto":
        raise BadAddress("`mailto:` names no mail server: write smtps://USER@SERVER?to=YOU@EXAMPLE.ORG")
    if scheme not in (*_WEB, *_NTFY, *_MAIL) or not host:
        raise BadAddress("an address begins with https://, ntfys://, smtp:// or smtps://, or is the word `desktop`")
    found = kind or (Kind.EMAIL if scheme in _MAIL else Kind.NTFY if scheme in _NTFY else _HOSTS.get(host, Kind.JSON))
    if (found is Kind.EMAIL) is not (scheme in _MAIL) or (scheme in _NTFY and found is not Kind.NTFY):
        raise BadAddress(f"an address with {scheme}:// is not of the kind {found}")
    if found is Kind.EMAIL and not recipients(url):
        raise BadAddress("a mail server's address lacks `?to=YOU@EXAMPLE.ORG`")
    if found is Kind.EMAIL and any(not re.fullmatch(r"[!-~]+@[!-~]+", one) for one in (*recipients(url), sender(url))):
        raise BadAddress("a mail address is not NAME@HOST; the sender is `?from=`, or else the user of the server")
    if parts.password is not None:
        raise BadAddress("an address holds a password: name a variable with it in `secret`")
    if found is Kind.NTFY and not parts.path.strip("/"):
        raise BadAddress("an address of ntfy lacks its topic: https://ntfy.sh/TOPIC")
    return Channel(found, url, secret, events)


def recipients(url: str) -> list[str]:
    """Return the mail addresses in `to` of a mail server's address."""
    texts = parse_qs(urlsplit(url).query).get("to", [])
    return [one.strip() for text in texts for one in text.split(",") if one.strip()]


def sender(url: str) -> str:
    """Return the mail address that a message comes from: `from` of the server's address, else its user."""
    parts = urlsplit(url)
    return parse_qs(parts.query).get("from", [unquote(parts.username or "")])[0]


def as_text(channels: list[Channel]) -> str:
    """Return the channels as the text that goes to the machine, with their secrets."""
    return json.dumps(
        [
            {"kind": one.kind.value, "url": one.url, "secret": one.secret, "events": [e.value for e in one.events]}
            for one in channels
        ]
    )


def from_text(text: str) -> list[Channel]:
    """Return the channels of such a text; [] where it is empty. Events and kinds of a newer version are left out."""
    found = []
    for plain in json.loads(text) if text else []:
        kinds = {kind.value for kind in Kind}
        if plain["kind"] in kinds:
            events = tuple(event for event in EVENTS if event.value in plain["events"])
            found.append(Channel(Kind(plain["kind"]), str(plain["url"]), str(plain["secret"]), events))
    return found
