"""Several machines that train together: which one this is, and how their launchers meet."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from trainer.errors import STOPPED_EARLY, ConfigError, TrainerError

# They may come as late as this after one another.
_MEETING_S = 600
# While torch waits for the others it hears no signal: after this long it is taken for deaf.
_DEAF_S = 2.0


@dataclass(frozen=True, slots=True)
class Nodes:
    """This machine is `rank` of `count`, from 0; the first one's launcher listens at `head`, HOST:PORT."""

    count: int = 1
    rank: int = 0
    head: str = ""

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if self.count == 1:
            return
        if self.count < 1:
            raise ConfigError(f"{self.count} machines train nothing", hint="`--nodes` is at least 1")
        if not 0 <= self.rank < self.count:
            raise ConfigError(
                f"there is no machine {self.rank} of {self.count}",
                hint=f"`--node-rank` is 0 on the first machine, and up to {self.count - 1} on the others",
            )
        host, _, port = self.head.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(
                f"`{self.head}` is not where machines can meet",
                hint="give all of them `--head HOST:PORT`, an address of the first one and a free port there",
            )


ONE_NODE = Nodes()


def meeting(nodes: Nodes) -> dict[str, Any]:
    """Where the launchers meet: in torchrun's words, its rendezvous."""
    if nodes.count == 1:
        own = {"rdzv_backend": "c10d", "rdzv_endpoint": "127.0.0.1:0", "local_addr": "127.0.0.1"}
        return {**own, "run_id": uuid.uuid4().hex}
    return {
        "rdzv_backend": "static",  # the ranks follow the machines': the first one's first process has the results
        "rdzv_endpoint": nodes.head,
        "rdzv_configs": {"rank": nodes.rank, "timeout": _MEETING_S},
        "run_id": "trainer",
    }


def stay_stoppable(stop: Callable[[int, FrameType | None], None]) -> None:
    """While torch waits for the other machines, no handler of Python's runs: a thread is told of signals, too.

    `stop` is the handler until then; torchrun puts its own in place once it starts processes.
    """
    told, teller = socket.socketpair()
    teller.settimeout(0)
    signal.set_wakeup_fd(teller.fileno(), warn_on_full_buffer=False)

    def listen(_: socket.socket) -> None:
        while number := told.recv(1):
            time.sleep(_DEAF_S)
            if number[0] in (signal.SIGTERM, signal.SIGINT) and signal.getsignal(number[0]) is stop:
                name = signal.Signals(number[0]).name
                os.write(2, f"stopped by {name} before all machines had come\n".encode())
                os._exit(STOPPED_EARLY)

    threading.Thread(target=listen, args=(teller,), name="signals", daemon=True).start()  # which keeps it open


def not_met(nodes: Nodes, err: Exception) -> TrainerError:
    text = str(err).splitlines()[0].split(". ")[0] if str(err) else type(err).__name__
    return TrainerError(
        f"machine {nodes.rank} of {nodes.count} (from 0) did not meet the others at {nodes.head}: {text}",
        hint="run the same command on each, with its own `--node-rank`; the port of `--head` must be open between them",
    )
