"""Tell which backend serves an infra, by its name, and what that backend's machines can do. Pure.

Code outside `cloudrun/backends` asks for a capability, and compares no names: a new backend is one entry in
`CAPABILITIES` and one line in `open_backend`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cloudrun.catalog.addresses import is_address
from cloudrun.protocol.timing import FOLLOWER_SILENCE_S

LOCAL = "local"
"""The name of the infra that is this computer."""

INFRAS = (
    *(LOCAL, "aws", "azure", "cudo", "do", "fluidstack", "gcp", "ibm", "kubernetes", "lambda", "nebius", "oci"),
    *("paperspace", "runpod", "seeweb", "shadeform", "slurm", "ssh", "vast"),
)
"""Names that the shell completes; SkyPilot may know others, which a launch takes as well."""

BackendName = Literal["local", "sky", "ssh"]

BILLED: BackendName = "sky"
"""The backend that rents: only this one is asked for machines that the ledger does not know."""

# Clusters of the user's own: a GPU may have any name there, the owner sets the price, and 0 is a price. So it is for a
# machine by its address.
_OWN_CLUSTERS = ("slurm", "kubernetes", "k8s", "ssh")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The properties of a backend's machines that other code may ask for; times in seconds."""

    is_billed: bool  # a machine costs money until it is released, so that nobody may forget it
    rents: bool  # a machine is rented for the run, from a provider that lists what it bills
    is_remote: (
        bool  # a machine is another computer: files are sent there and fetched, and it has SSH, set-up and a disk
    )
    ends_machines: bool  # the worker ends its machine, where this computer does not
    rents_several: bool  # one run can have several machines
    # The pause between two looks for new lines of a job's log: a look is a command over a connection that is kept open.
    log_pause_s: float
    # The pause between two looks for new results of a running job: a look hashes files, which takes time from the job.
    fetch_pause_s: float
    # A worker whose heartbeat is older than this may be dead: only then is the backend asked.
    silence_s: float


CAPABILITIES: Mapping[BackendName, Capabilities] = {
    "local": Capabilities(
        is_billed=False,
        rents=False,
        is_remote=False,
        ends_machines=False,
        rents_several=False,
        log_pause_s=0.2,
        fetch_pause_s=1.0,
        silence_s=2.0,
    ),
    # A machine of the user's own, by its address: it may cost money, and its owner says how much and what ends it.
    "ssh": Capabilities(
        is_billed=True,
        rents=False,
        is_remote=True,
        ends_machines=False,
        rents_several=False,
        log_pause_s=0.5,
        fetch_pause_s=15.0,
        silence_s=FOLLOWER_SILENCE_S,
    ),
    "sky": Capabilities(
        is_billed=True,
        rents=True,
        is_remote=True,
        ends_machines=True,
        rents_several=True,
        log_pause_s=0.5,
        fetch_pause_s=15.0,
        silence_s=FOLLOWER_SILENCE_S,
    ),
}


def backend_for(infra: str | None) -> BackendName:
    """Return the backend that serves an infra (`aws/us-east-1`, `ssh://lab`); None: wherever a machine is cheapest."""
    if infra is not None and is_address(infra):
        return "ssh"
    return "local" if infra is not None and _head(infra) == LOCAL else "sky"


def is_own_cluster(infra: str | None) -> bool:
    """Return whether an infra is the user's own cluster or machine, whose owner names the GPUs and sets the price."""
    return infra is not None and (is_address(infra) or _head(infra) in _OWN_CLUSTERS)


def cloud_of(infra: str) -> str:
    """Return the cloud of an infra, in lower case: that of `aws/us-east-1` is `aws`."""
    return _head(infra)


def _head(infra: str) -> str:
    return infra.split("/", 1)[0].lower()
