"""Say what is known of each infra by its name: which backend serves it, and what that backend's machines are. Pure.

Code outside `cloudrun/backends` asks for a capability, and compares no names: a new backend is one entry in
`CAPABILITIES` and one line in `open_backend`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cloudrun.protocol.timing import FOLLOWER_SILENCE_S

LOCAL = "local"
"""The infra that is this computer."""

BackendName = Literal["local", "sky"]

BILLED: BackendName = "sky"
"""The backend whose machines cost money: it is asked for machines that the ledger does not know."""

# Clusters of the user's own: there a GPU may carry any name, the price is what the owner says, and 0 is a price.
_OWN_CLUSTERS = ("slurm", "kubernetes", "k8s", "ssh")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend's machines are to those who use them; times in seconds."""

    is_billed: bool  # a machine costs money until it is released, so that nobody may forget it
    is_remote: (
        bool  # a machine is another computer: files are sent there and fetched, and it has SSH, set-up and a disk
    )
    ends_machines: bool  # the worker ends its machine, where this computer does not
    rents_several: bool  # one run can have several machines
    # Between two looks for new lines of a job's log: a command over a connection that is kept open.
    log_pause_s: float
    # Between two looks for new results while a job runs: a look hashes its files, which takes time from the job.
    fetch_pause_s: float
    # A worker whose heartbeat is older than this may be dead: only then is the backend asked.
    silence_s: float


CAPABILITIES: Mapping[BackendName, Capabilities] = {
    "local": Capabilities(
        is_billed=False,
        is_remote=False,
        ends_machines=False,
        rents_several=False,
        log_pause_s=0.2,
        fetch_pause_s=1.0,
        silence_s=2.0,
    ),
    "sky": Capabilities(
        is_billed=True,
        is_remote=True,
        ends_machines=True,
        rents_several=True,
        log_pause_s=0.5,
        fetch_pause_s=15.0,
        silence_s=FOLLOWER_SILENCE_S,
    ),
}


def backend_for(infra: str | None) -> BackendName:
    """Return the backend that serves an infra (`aws/us-east-1`); None: wherever a machine is cheapest."""
    return "local" if infra is not None and _head(infra) == LOCAL else "sky"


def is_own_cluster(infra: str | None) -> bool:
    """Return whether an infra is the user's own cluster, whose owner names the GPUs and sets the price."""
    return infra is not None and _head(infra) in _OWN_CLUSTERS


def _head(infra: str) -> str:
    return infra.split("/", 1)[0].lower()
