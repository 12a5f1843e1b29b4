"""Decide whether a request may read: a token in the address or in a cookie, and a host name of the loopback. Pure.

A page of another site cannot read an answer: the browser asks with that site's name in `Host` where the site's name
server points at this computer (DNS rebinding), and without the cookie or with `Sec-Fetch-Site` elsewhere.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

HOST = "127.0.0.1"
_NAMES = (HOST, "localhost")  # any port: a tunnel of SSH may have another one at its near end
_LONGEST_COOKIE = 16_384


@dataclass(frozen=True, slots=True)
class Access:
    """The secret of one server. `port` names its cookie: two servers of one computer share their cookies' host."""

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def url(self) -> str:
        """Return the address that lets a browser in."""
        return f"http://{HOST}:{self.port}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """Return the value of `Set-Cookie`: for this browser, for no script, and not for what other sites embed."""
        return f"{self._cookie_name}={self.token}; Path=/; HttpOnly; SameSite=Lax"

    @property
    def _cookie_name(self) -> str:
        return f"cloudrun-{self.port}"

    def is_token(self, given: str) -> bool:
        """Return whether `given` is the token; takes the same time for any text of the same length."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    def has_cookie(self, header: str) -> bool:
        """Return whether a `Cookie` header holds the token; what other servers of this computer set is passed over."""
        if len(header) > _LONGEST_COOKIE:
            return False
        pairs = (part.strip().partition("=") for part in header.split(";"))
        return any(self.is_token(value) for name, _, value in pairs if name == self._cookie_name)


def is_our_host(hosts: Sequence[str]) -> bool:
    """Return whether the `Host` headers of a request are one header that names the loopback."""
    if len(hosts) != 1:
        return False
    name, _, port = hosts[0].strip().partition(":")
    return name.lower() in _NAMES and (not port or (port.isascii() and port.isdigit()))


def is_embedded_elsewhere(site: str | None, mode: str | None) -> bool:
    """Return whether a page of another site asks for this address without the user going there.

    `site`, `mode`: the headers `Sec-Fetch-Site` and `Sec-Fetch-Mode`; None for a browser that sends neither.
    """
    return site in ("cross-site", "same-site") and mode != "navigate"
