"""Say what to do about a machine that does not let this computer in, from what ssh said. Pure."""

from __future__ import annotations

from cloudrun.remote.entries import HostEntry

_SIGNS = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "changed"),
    ("Host key verification failed", "changed"),
    ("Permission denied", "denied"),
    ("Too many authentication failures", "denied"),
    ("Could not resolve hostname", "name"),
    ("Connection refused", "refused"),
)


def reason_of(stderr: str) -> str:
    """Return the line of ssh's words that says why; where none is known, the last one; empty where there is none."""
    lines = [line.strip(" @\r") for line in stderr.splitlines()]
    for sign, _ in _SIGNS:
        if sign in stderr:
            return next(line for line in lines if sign in line)
    spoken = [line for line in lines if line]
    return spoken[-1] if spoken else ""


def hint_for(entry: HostEntry, stderr: str) -> str:
    """Return the next step for a machine of the user's own that ssh cannot enter."""
    by_hand = f"ssh -F {entry.config} {entry.host}"
    kind = next((kind for sign, kind in _SIGNS if sign in stderr), "")
    match kind:
        case "changed":
            return (
                "its key is not the one of last time: another machine may answer there. If you rented it anew, forget"
                f" the old key: `ssh-keygen -f {entry.config.with_name('known_hosts')} -R NAME`, with the NAME that"
                f" `{by_hand}` shows"
            )
        case "denied":
            return (
                "cloudrun logs in by a key, never by a password: put your public key there (`ssh-copy-id`, or the"
                f" platform's console), and name its file as `ssh_key` if it is not a usual one; `{by_hand}` tries it"
            )
        case "name":
            return f"is `{entry.host}` spelled as your ssh config or the platform's console has it?"
        case "refused":
            return "is the machine on, and is the port the one of today? rented boxes get a new port when they restart"
        case _:
            return f"is the machine on? `{by_hand}` tries it by hand"
