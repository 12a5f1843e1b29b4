"""Train on several machines: which machine this is, and how their launchers meet."""

from __future__ import annotations

import socket
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from trainer.distributed.rendezvous import announce_absence, shared_store
from trainer.errors import DONE, STOPPED_EARLY, ConfigError, TrainerError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

# Longest time between the first and the last launcher.
_MEETING_S = 600.0
# Longest answer once all launchers are present.
_ANSWER_S = 60
# Longest attempt to connect, in which torch does not react to signals.
_DEAF_S = 5
# The first machine, where all meet, stays this long for machines that do not know yet that nothing will begin.
_FAREWELL_S = 15.0


@dataclass(frozen=True, slots=True)
class Nodes:
    """This machine is `rank` of `count`, from 0. The first machine's launcher listens at `head`, HOST:PORT."""

    count: int = 1
    rank: int = 0
    head: str = ""

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if self.count == 1:
            return
        if self.count < 1:
            raise ConfigError(f"`--nodes {self.count}`", hint="`--nodes` is at least 1")
        if not 0 <= self.rank < self.count:
            raise ConfigError(
                f"there is no machine {self.rank} of {self.count}",
                hint=f"`--node-rank` is 0 on the first machine, and up to {self.count - 1} on the others",
            )
        host, _, port = self.head.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigError(
                f"`--head {self.head}` is not HOST:PORT" if self.head else f"{self.count} machines, and no `--head`",
                hint="give all of them `--head HOST:PORT`, an address of the first one and a free port there",
            )

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.head.rpartition(":")
        return host, int(port)

    @property
    def is_first(self) -> bool:
        return self.rank == 0


ONE_NODE = Nodes()


def rendezvous(nodes: Nodes) -> dict[str, Any]:
    """Return the settings of torchrun's library: where the launchers find each other."""
    if nodes.count == 1:
        own = {"rdzv_backend": "c10d", "rdzv_endpoint": "127.0.0.1:0", "local_addr": "127.0.0.1"}
        return {**own, "run_id": uuid.uuid4().hex}
    return {
        "rdzv_backend": "static",  # ranks follow the machines: the first process of the first machine has the results
        "rdzv_endpoint": nodes.head,
        "rdzv_configs": {"rank": nodes.rank, "timeout": _ANSWER_S},
        "run_id": "trainer",
    }


@dataclass(frozen=True, slots=True)
class Meeting:
    """Launchers of all machines that have met, and the store where they and their processes exchange messages."""

    nodes: Nodes
    store: Store
    world: int
    """Number of processes on all machines."""

    def leave(self, code: int) -> None:
        """Announce that this machine's processes have ended with `code`.

        Processes elsewhere may still wait for them.
        """
        from torch.distributed import DistError

        if code == DONE or not (self.nodes.is_first or _is_first_there(self.nodes)):
            return
        try:
            has_begun = announce_absence(self.store, None if code == STOPPED_EARLY else f"machine {self.nodes.rank}")
            gone = self.store.add("gone", 1)
            until = time.monotonic() + _FAREWELL_S
            while self.nodes.is_first and not has_begun and gone < self.nodes.count and time.monotonic() < until:
                time.sleep(0.1)
                gone = self.store.add("gone", 0)
        except DistError:  # the first machine has just ended, which the others notice
            return


def meet(nodes: Nodes, *, processes: int) -> Meeting:
    """Wait for the launchers of all machines; torch's own wait would not react to signals.

    Raises TrainerError where a machine does not come.
    """
    from torch.distributed import DistError

    until = time.monotonic() + _MEETING_S
    try:
        store = _serve(nodes) if nodes.is_first else _wait_for_first(nodes, until)
        return Meeting(nodes, store, _wait_for_all(nodes, store, processes, until))
    except DistError as err:
        raise not_met(nodes, str(err)) from None


def _serve(nodes: Nodes) -> Store:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    patience = timedelta(seconds=_ANSWER_S)
    # multi_tenant: torchrun's library opens it again, on the same port.
    return shared_store(
        TCPStore(*nodes.address, is_master=True, wait_for_workers=False, multi_tenant=True, timeout=patience)
    )


def _is_first_there(nodes: Nodes) -> bool:
    """Return whether the first machine answers. torch would write a trace to stderr where it does not."""
    try:
        socket.create_connection(nodes.address, timeout=5).close()
    except OSError:
        return False
    return True


def _wait_for_first(nodes: Nodes, until: float) -> Store:
    from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

    while time.monotonic() < until:
        if _is_first_there(nodes):
            with suppress(DistError):  # the first machine has just ended, and may come back
                store = TCPStore(
                    *nodes.address, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=_DEAF_S)
                )
                store.set_timeout(timedelta(seconds=_ANSWER_S))
                return shared_store(store)
        time.sleep(0.2)
    raise not_met(nodes, f"machine 0 was not there within {_MEETING_S:.0f} s")


def _wait_for_all(nodes: Nodes, store: Store, processes: int, until: float) -> int:
    """Return the number of processes of all machines."""
    from torch.distributed import DistError

    names = {rank: f"machine-{rank}" for rank in range(nodes.count)}
    store.set(names[nodes.rank], str(processes))
    missing: list[str] = []
    try:
        while time.monotonic() < until:
            missing = [str(rank) for rank, name in names.items() if not store.check([name])]
            if not missing:
                return sum(int(store.get(name)) for name in names.values())
            time.sleep(0.1)
    except BaseException:
        with suppress(DistError):
            store.delete_key(names[nodes.rank])  # this machine may come back
        raise
    raise not_met(nodes, f"machine {', '.join(missing)} did not come within {_MEETING_S:.0f} s")


def not_met(nodes: Nodes, reason: str) -> TrainerError:
    text = reason.splitlines()[0].split(". ")[0] if reason else "torch does not say why"
    return TrainerError(
        f"machine {nodes.rank} of {nodes.count} (from 0) did not meet the others at {nodes.head}: {text}",
        hint="run the same command on each, with its own `--node-rank`; the port of `--head` must be open between them",
    )
