"""Find the host entry of a machine for ssh: SkyPilot's for a rented one, our own for one that its user can log in to.

An own entry is a file in cloudrun's home folder. It holds what the job file says, and then includes the user's ssh
config, so that jump hosts, aliases and agents work as they do in the user's shell.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cloudrun.catalog.addresses import SshAddress
from cloudrun.errors import StoreError
from cloudrun.files import atomic
from cloudrun.state.home import home_folder

_OWN = "ssh"
_KNOWN_HOSTS = "known_hosts"


@dataclass(frozen=True, slots=True)
class HostEntry:
    """An ssh config and the name of the host in it; `is_own`: of a machine that cloudrun did not rent."""

    config: Path
    host: str
    is_own: bool


def entry_of(machine: str) -> HostEntry:
    """Return the entry of a machine. Raises StoreError where this computer has none."""
    own = _own_path(machine)
    try:
        first = own.read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return HostEntry(_skypilots(machine), machine, is_own=False)
    return HostEntry(own, first.removeprefix("Host "), is_own=True)


def write_entry(machine: str, address: SshAddress, key: str | None) -> None:
    """Write the entry of a machine that is reached by `address`, with the private key of that file.

    A new machine's key is kept, in a file of cloudrun's own beside the user's; a machine whose key has changed is
    refused.
    """
    path = _own_path(machine)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    known = f"{_quoted(path.parent / _KNOWN_HOSTS)} {_quoted(Path.home() / '.ssh' / 'known_hosts')}"
    lines = [f"Host {address.host}"]
    lines += [f"User {address.user}"] if address.user else []
    lines += [f"Port {address.port}"] if address.port else []
    lines += [f"IdentityFile {_quoted(Path(key))}", "IdentitiesOnly yes"] if key else []
    lines += [f"UserKnownHostsFile {known}", "StrictHostKeyChecking accept-new"]
    # `-F` makes ssh read this file alone. What stands first counts, so the user's settings fill in what is left.
    lines += ["Host *"]
    lines += [f"Include {_quoted(Path.home() / '.ssh' / 'config')}", "Include /etc/ssh/ssh_config"]
    atomic.write(path, "\n".join([lines[0], *(f"  {line}" for line in lines[1:])]) + "\n", private=True)


def remove_entry(machine: str) -> None:
    """Forget the entry of a machine with which no run has to do any more."""
    _own_path(machine).unlink(missing_ok=True)


def known_hosts_file() -> Path:
    """Return the file in which the keys of the user's own machines are kept."""
    return home_folder() / _OWN / _KNOWN_HOSTS


def _own_path(machine: str) -> Path:
    return home_folder() / _OWN / f"{machine}.config"


def _quoted(path: Path) -> str:
    return f'"{path}"' if " " in str(path) else str(path)


def _skypilots(machine: str) -> Path:
    source = Path.home() / ".sky" / "generated" / "ssh" / machine
    if not source.is_file():
        raise StoreError(
            f"SkyPilot on this computer has no SSH entry for `{machine}` ({source})",
            hint="was it rented from another computer? `sky status` lists the machines that this one knows",
        )
    return source
