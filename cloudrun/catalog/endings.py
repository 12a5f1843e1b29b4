"""Describe how a machine of each infra ends when nobody is there, for people to read before they pay. Pure."""

from __future__ import annotations

# Clouds without autodown, by SkyPilot 0.14's own table of what its clouds cannot do.
WITHOUT_AUTODOWN = ("hyperbolic", "primeintellect", "verda", "yotta")
# Markets where anybody may offer a computer at home; SkyPilot can be told to rent in data centres alone.
MARKETS_WITH_HOMES = ("vast",)


def has_autodown(infra: str | None) -> bool:
    """Return whether SkyPilot's idle timer works on an infra; None: the infra that SkyPilot chooses."""
    return infra is None or infra.split("/")[0] not in WITHOUT_AUTODOWN


def is_slurm(infra: str | None) -> bool:
    """Return whether a machine is a Slurm allocation, which is cancelled."""
    return infra is not None and infra.split("/")[0] == "slurm"


def how_it_ends(infra: str | None, *, idle_minutes: int) -> str:
    """Return in words what ends the machine with the laptop off, the surest first."""
    if is_slurm(infra):
        own = "the watchdog on it ends its Slurm allocation"
    elif has_autodown(infra):
        own = "the watchdog on it has SkyPilot end it, within 75 s of the budget's end"
    else:
        return (
            f"SkyPilot has no autodown on {infra}: the watchdog on it asks SkyPilot all the same,"
            " which may not end the bill; `cloudrun down` does"
        )
    return f"{own}; beneath that, SkyPilot's timer after {idle_minutes} idle minutes"
