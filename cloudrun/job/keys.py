"""Describe the user's cloud keys that go to a rented machine, for people to read before they pay. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeysSent:
    """Files with credentials that SkyPilot copies to the machine, by their paths there.

    `needed`: keys by which the machine ends itself with the user's computer off. `along`: other keys, which the machine
    does not need. `warning`: a problem with the needed keys. `unknown`: the reason why nobody could tell, else empty.
    """

    needed: tuple[str, ...] = ()
    along: tuple[str, ...] = ()
    are_removed: bool = True  # whether `along` is removed once the machine is up: not where the home folder outlives it
    warning: str = ""
    unknown: str = ""

    def lines(self) -> list[str]:
        """Return the lines about keys that `launch` shows before it asks."""
        if self.unknown:
            return [f"which of your cloud keys SkyPilot sends is not known: {self.unknown}"]
        lines = ["the machine needs no key of yours"]
        if self.needed:
            lines = [f"{_listed(self.needed)} to the machine: by {_this(self.needed)} it ends itself"]
        if self.along:
            then = f"; cloudrun removes {_it(self.along)} when the machine is up" if self.are_removed else ""
            lines.append(f"SkyPilot sends {_names(self.along)} along{then}")
        return lines

    def as_plain(self) -> dict[str, object]:
        """Return the part about keys of `launch --dry-run --json`."""
        return {"needed": list(self.needed), "along": list(self.along), "unknown": self.unknown or None}


def _listed(paths: tuple[str, ...]) -> str:
    return f"{_names(paths)} {'goes' if len(paths) == 1 else 'go'}"


def _names(paths: tuple[str, ...]) -> str:
    return paths[0] if len(paths) == 1 else f"{', '.join(paths[:-1])} and {paths[-1]}"


def _this(paths: tuple[str, ...]) -> str:
    return "this key" if len(paths) == 1 else "these keys"


def _it(paths: tuple[str, ...]) -> str:
    return "it" if len(paths) == 1 else "them"
