"""Read the address of a machine that its user can log in to: `ssh://USER@HOST:PORT`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

SCHEME = "ssh://"

# A host is a name, an IPv4 address, an IPv6 address in brackets, or a `Host` of the user's ssh config. None may start
# with `-`, which ssh would take for an option.
_ADDRESS = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9_.-]*)(?::(?P<port>\d{1,5}))?/?"
)


@dataclass(frozen=True, slots=True)
class SshAddress:
    """A machine's address. `user` and `port` are None where the ssh config, or ssh itself, chooses them."""

    user: str | None
    host: str
    port: int | None

    def __str__(self) -> str:
        """Return `ssh://USER@HOST:PORT`, without what is not given."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{SCHEME}{f'{self.user}@' if self.user else ''}{host}{f':{self.port}' if self.port is not None else ''}"


def is_address(infra: str) -> bool:
    """Return whether an infra is the address of one machine, and no name of a cloud."""
    return infra[: len(SCHEME)].lower() == SCHEME


def parse_address(infra: str) -> SshAddress:
    """Return the address that an infra holds. Raises ValueError, with a sentence, where it is none."""
    match = _ADDRESS.fullmatch(SCHEME + infra[len(SCHEME) :]) if is_address(infra) else None
    port = None if match is None or match["port"] is None else int(match["port"])
    if match is None or (port is not None and not 1 <= port <= 65_535):
        raise ValueError(
            f'"{infra}" is not the address of a machine; write ssh://USER@HOST:PORT, such as ssh://root@203.0.113.7:2222'
        )
    return SshAddress(match["user"], match["host"].strip("[]"), port)
