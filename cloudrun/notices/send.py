"""Deliver one notice to one channel, within a bounded time, and say in a few words why that failed."""

from __future__ import annotations

import shutil
import smtplib
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import EmailMessage
from http.client import HTTPException
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

from cloudrun.notices.channel import Channel, Kind
from cloudrun.notices.payload import Notice, mail_for, refusal, request_for

_TIMEOUT_S = 8.0
_PAUSES_S = (2.0, 8.0)
_LARGEST_ANSWER_BYTES = 4096
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)


class NotDelivered(Exception):
    """A notice that did not arrive. The message has no part of the address; `is_final`: another try would fail, too."""

    def __init__(self, why: str, *, is_final: bool = False) -> None:
        super().__init__(why)
        self.is_final = is_final


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A webhook that leads elsewhere is not followed: its address is a secret, and a POST would become a GET."""

    def redirect_request(self, *_: Any) -> None:
        return None


def deliver(channel: Channel, notice: Notice, *, sleep: Callable[[float], object] = time.sleep) -> None:
    """Send the notice, and try again after 2 and 8 seconds where that may help. Raises NotDelivered."""
    for pause_s in (*_PAUSES_S, None):
        try:
            _once(channel, notice)
            return
        except NotDelivered as err:
            if pause_s is None or err.is_final:
                raise
        sleep(pause_s)


def _once(channel: Channel, notice: Notice) -> None:
    if channel.kind is Kind.EMAIL:
        _mail(channel, notice)
    elif channel.kind is Kind.DESKTOP:
        _show(notice)
    else:
        _post(channel, notice)


def _post(channel: Channel, notice: Notice) -> None:
    asked = request_for(channel, notice, now=time.time())
    headers = {"User-Agent": "cloudrun", **asked.headers}
    request = urllib.request.Request(asked.url, data=asked.body, headers=headers, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=_TIMEOUT_S) as answer:
            refused = refusal(channel, answer.read(_LARGEST_ANSWER_BYTES))
    except urllib.error.HTTPError as err:
        err.close()
        raise NotDelivered(f"HTTP {err.code}", is_final=err.code not in _TEMPORARY) from None
    except (OSError, HTTPException) as err:
        raise NotDelivered(_why(err)) from None
    if refused:
        raise NotDelivered(refused, is_final=True)


def _mail(channel: Channel, notice: Notice) -> None:
    parts = urlsplit(channel.url)
    host, user = parts.hostname or "", unquote(parts.username or "")
    try:
        if parts.scheme == "smtps":
            context = ssl.create_default_context()
            with smtplib.SMTP_SSL(host, parts.port or 465, timeout=_TIMEOUT_S, context=context) as server:
                _hand_over(server, user, channel.secret, mail_for(channel, notice))
            return
        with smtplib.SMTP(host, parts.port or 587, timeout=_TIMEOUT_S) as server:
            server.ehlo()
            if server.has_extn("starttls"):
                server.starttls(context=ssl.create_default_context())
                server.ehlo()
            elif channel.secret and not _is_here(host):
                raise NotDelivered("the mail server has no encryption, and would see the password", is_final=True)
            _hand_over(server, user, channel.secret, mail_for(channel, notice))
    except (smtplib.SMTPAuthenticationError, smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused) as err:
        raise NotDelivered(type(err).__name__, is_final=True) from None
    except (OSError, smtplib.SMTPException) as err:
        raise NotDelivered(_why(err)) from None


def _hand_over(server: smtplib.SMTP, user: str, password: str, mail: EmailMessage) -> None:
    if password:
        server.login(user, password)
    server.send_message(mail)


def _show(notice: Notice) -> None:
    """Show the notice on this computer's desktop, where a program for that is installed."""
    if sys.platform == "darwin":
        script = "on run words\ndisplay notification (item 2 of words) with title (item 1 of words)\nend run"
        command = ["osascript", "-e", script, notice.title, notice.text[:200]]
    else:
        command = ["notify-send", "--app-name=cloudrun", "--", notice.title, notice.text[:200]]
    if shutil.which(command[0]) is None:
        raise NotDelivered(f"`{command[0]}` is not installed", is_final=True)
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as err:
        raise NotDelivered(f"`{command[0]}`: {type(err).__name__}", is_final=True) from None


def _why(err: Exception) -> str:
    """Return a failure's kind without the address, which some messages of the standard library quote."""
    reason = err.reason if isinstance(err, urllib.error.URLError) else err
    if isinstance(reason, OSError) and reason.strerror:
        return str(reason.strerror)[:100]
    return "no answer in time" if isinstance(reason, TimeoutError) else type(reason).__name__


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
