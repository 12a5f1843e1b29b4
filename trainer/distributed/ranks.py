"""The processes of one run: each trains on its share of every batch, and after each step all hold the same weights.

They are started as torchrun starts them (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT).
What one of them must decide alone (a signal, a clock, a file) is agreed on here, so that none waits for another.
Importing this module does not load torch.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, cast

from trainer.distributed.rendezvous import await_peers, shared_store
from trainer.errors import TrainerError

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

    from trainer.distributed.stop import StopFlag

Value = TypeVar("Value")

# A process that died is noticed at once, by its closed connection; this is for a machine that fell silent.
_SILENCE = timedelta(minutes=10)
_CONNECTING = timedelta(seconds=30)
_SIOCGIFADDR = 0x8915  # Linux: the address of a network interface


class PeerLost(TrainerError):
    """Talking to the others failed: mostly since another process of the run has ended, and its own error says why."""

    def __init__(self, text: str) -> None:
        """`text`: what Gloo or NCCL says."""
        own = re.search(r"Last error:\s*(\S[^\n]*)", text)  # NCCL's; its first line only names the kind
        self.is_echo = own is None or "ncclRemoteError" in text
        short = re.sub(r"\[[^\]]*\]:?\d*:? *", "", text.splitlines()[0])  # without file, line and address
        reason = short.split(". ")[0].strip()
        super().__init__(
            f"the processes of this run lost each other: {own[1] if own else reason}",
            hint="one that has ended says why itself; the same command goes on from the last checkpoint"
            if self.is_echo
            else "NCCL_DEBUG=INFO tells more; the same command goes on from the last checkpoint",
        )


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process is `rank` of `world`, and `local_rank` of the `local_world` on this machine; all from 0."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    machines: int = 1
    _control: list[dist.ProcessGroup] = field(default_factory=list, repr=False, compare=False)
    """Gloo, apart from the gradients; empty until `join`."""

    @property
    def is_main(self) -> bool:
        """The one that writes files and speaks."""
        return self.rank == 0

    def join(self, device: torch.device, stop: StopFlag) -> None:
        """Meet the others; gradients of a GPU go by NCCL, all else by Gloo.

        Raises PeerLost, NotAllCame, or StoppedEarly in all where one is asked to stop before all are there.
        """
        if self.world == 1 or self._control:
            return
        import torch.distributed as dist
        from torch.distributed.rendezvous import rendezvous

        name = self._interface()
        if name is not None:
            os.environ["GLOO_SOCKET_IFNAME"] = name
            if self.machines > 1:
                os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={name}")  # it may take another one by itself
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        with peers():
            # A launcher has its store before it starts processes: where it is not there, it has ended.
            is_there = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
            store, rank, world = next(rendezvous("env://", timeout=_CONNECTING if is_there else _SILENCE))
            store.set_timeout(_SILENCE)
            store = shared_store(store)
            await_peers(store, rank=rank, world=world, stop=stop)
            dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=_SILENCE)
            self._control.append(cast("dist.ProcessGroup", dist.new_group(backend="gloo", timeout=_SILENCE)))
        check_alike(self.gather(device.type))

    def _interface(self) -> str | None:
        """Where Gloo is to listen; None: as it likes. The name of a hired machine, which it asks for, leads nowhere."""
        if sys.platform != "linux" or "GLOO_SOCKET_IFNAME" in os.environ:
            return None
        return "lo" if self.local_world == self.world else interface_to(os.environ["MASTER_ADDR"])

    def leave(self) -> None:
        """Once all have come to their end. The run is over: who has ended already is no matter."""
        if not self._control:
            return
        import torch.distributed as dist

        try:
            self.decide(0)
        except PeerLost:
            return
        finally:
            self._control.clear()
            dist.destroy_process_group()

    def decide(self, *numbers: int) -> tuple[int, ...]:
        """The largest of what the processes say, for each of `numbers`: the same for all. Raises PeerLost."""
        if self.world == 1:
            return numbers
        import torch
        import torch.distributed as dist

        with peers():
            told = torch.tensor(numbers, dtype=torch.int64)
            dist.all_reduce(told, op=dist.ReduceOp.MAX, group=self._control[0])
        return tuple(told.tolist())

    def wait_for_all(self, seconds: float) -> None:
        """For work that takes one of them longer than silence may last. Raises PeerLost."""
        if self.world == 1:
            return
        import torch.distributed as dist

        with peers():
            dist.monitored_barrier(group=self._control[0], timeout=timedelta(seconds=seconds))

    def from_main(self, ask: Callable[[], Value]) -> Value:
        """What `ask` gives in the main process; the others do not call it. Raises PeerLost."""
        if self.world == 1:
            return ask()
        import torch.distributed as dist

        told = [ask() if self.is_main else None]
        with peers():
            dist.broadcast_object_list(told, src=0, group=self._control[0])
        return cast("Value", told[0])

    def gather(self, value: Value) -> list[Value]:
        """The value of each process, in their order: the same for all. Raises PeerLost."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        values: list[Value | None] = [None] * self.world
        with peers():
            dist.all_gather_object(values, value, group=self._control[0])
        return cast("list[Value]", values)


def interface_to(host: str) -> str | None:
    """The name of this machine's network interface by which `host` is reached (Linux); None where there is none."""
    import fcntl

    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # sends nothing
            own = socket.inet_aton(probe.getsockname()[0])
            for _, name in socket.if_nameindex():
                request = struct.pack("256s", name.encode()[:15])
                with suppress(OSError):  # one without an address
                    if fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[20:24] == own:
                        return name
    except OSError:
        return None
    return None


def check_alike(devices: Sequence[str]) -> None:
    """Raises TrainerError where some of the processes found a GPU and others none: they would wait for each other."""
    if len(set(devices)) > 1:
        without = ", ".join(str(rank) for rank, name in enumerate(devices) if name == "cpu")
        raise TrainerError(
            f"of {len(devices)} processes (from 0) these found no GPU that works, and the others did: {without}",
            hint="`nvidia-smi` there says more; `device: cuda` names what torch sees, `device: cpu` uses none",
        )


ALONE = Ranks()


def ranks_from(environment: Mapping[str, str] = os.environ) -> Ranks:
    """As torchrun says; ALONE where it does not."""
    world = int(environment.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in environment:
        return ALONE
    rank = int(environment["RANK"])
    here = int(environment.get("LOCAL_WORLD_SIZE", world))
    machines = int(environment.get("GROUP_WORLD_SIZE", world // here))  # each may have another number of processes
    return Ranks(rank, world, int(environment.get("LOCAL_RANK", rank)), here, machines)


@contextmanager
def peers() -> Iterator[None]:
    """A collective call: that it fails is PeerLost."""
    try:
        yield
    except (RuntimeError, ConnectionError) as err:
        raise PeerLost(str(err)) from err
