"""How a machine of each infra comes to its end when nobody is there. Pure; for people to read before they pay."""

from __future__ import annotations

# By SkyPilot 0.14's own table of what its clouds cannot do.
WITHOUT_AUTODOWN = ("hyperbolic", "primeintellect", "verda", "yotta")
# Where anybody may let their computer; SkyPilot can be told to rent in data centres alone.
MARKETS_WITH_HOMES = ("vast",)


def has_autodown(infra: str | None) -> bool:
    """Whether SkyPilot's idle timer works there; None stands for whatever SkyPilot chooses."""
    return infra is None or infra.split("/")[0] not in WITHOUT_AUTODOWN


def is_slurm(infra: str | None) -> bool:
    """Return whether a machine is a Slurm allocation, which is cancelled."""
    return infra is not None and infra.split("/")[0] == "slurm"


def how_it_ends(infra: str | None, *, idle_minutes: int) -> str:
    """What ends the machine with the laptop off, the surest first."""
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
