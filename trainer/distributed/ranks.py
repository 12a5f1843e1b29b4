"""The processes of one run: each trains on its share of every batch, and after each step all hold the same weights.

They are started as torchrun starts them (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT).
Processes agree here on what each of them sees differently (a signal, a clock, a file), so that none waits for another.
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

# A process that died is noticed at once, by its closed connection; this is for a machine that stopped answering.
_SILENCE = timedelta(minutes=10)
_CONNECTING = timedelta(seconds=30)
_SIOCGIFADDR = 0x8915  # Linux: the address of a network interface


class PeerLost(TrainerError):
    """A collective call failed, mostly because another process of the run has ended; its own error says why."""

    def __init__(self, text: str) -> None:
        """`text`: the message of Gloo or NCCL."""
        own = re.search(r"Last error:\s*(\S[^\n]*)", text)  # NCCL's own reason; its first line only names the kind
        self.is_echo = own is None or "ncclRemoteError" in text
        short = re.sub(r"\[[^\]]*\]:?\d*:? *", "", text.splitlines()[0])  # without file, line and address
        reason = short.split(". ")[0].strip()
        super().__init__(
            f"the processes of this run lost each other: {own[1] if own else reason}",
            hint="see the error of the process that has ended; the same command continues from the last checkpoint"
            if self.is_echo
            else "set NCCL_DEBUG=INFO for details; the same command continues from the last checkpoint",
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
    """Gloo's process group, for everything but gradients; empty before `join`."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def join(self, device: torch.device, stop: StopFlag) -> None:
        """Connect to the other processes. Gradients of GPUs go by NCCL, everything else by Gloo.

        Raises PeerLost, PeerMissing, or, in all processes, StoppedEarly where one is asked to stop before all have
        joined.
        """
        if self.world == 1 or self._control:
            return
        import torch.distributed as dist
        from torch.distributed.rendezvous import rendezvous

        name = self._interface()
        if name is not None:
            os.environ["GLOO_SOCKET_IFNAME"] = name
            if self.machines > 1:
                os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={name}")  # NCCL could choose another interface
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        with peers():
            # A launcher opens its store before it starts processes: without a store the launcher has ended.
            is_there = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
            store, rank, world = next(rendezvous("env://", timeout=_CONNECTING if is_there else _SILENCE))
            store.set_timeout(_SILENCE)
            store = shared_store(store)
            await_peers(store, rank=rank, world=world, stop=stop)
            dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=_SILENCE)
            self._control.append(cast("dist.ProcessGroup", dist.new_group(backend="gloo", timeout=_SILENCE)))
        check_alike(self.gather(device.type))

    def _interface(self) -> str | None:
        """Return the interface on which Gloo listens; None: Gloo chooses.

        Gloo would ask for the host's name, which on a hired machine often has no address.
        """
        if sys.platform != "linux" or "GLOO_SOCKET_IFNAME" in os.environ:
            return None
        return "lo" if self.local_world == self.world else interface_to(os.environ["MASTER_ADDR"])

    def leave(self) -> None:
        """Wait until all processes have finished, then disconnect. A process that has already ended does not matter."""
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
        """Return for each of `numbers` the largest of all processes: the same in all. Raises PeerLost."""
        if self.world == 1:
            return numbers
        import torch
        import torch.distributed as dist

        with peers():
            largest = torch.tensor(numbers, dtype=torch.int64)
            dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=self._control[0])
        return tuple(largest.tolist())

    def wait_for_all(self, seconds: float) -> None:
        """Wait for work that takes one process longer than a collective call may last. Raises PeerLost."""
        if self.world == 1:
            return
        import torch.distributed as dist

        with peers():
            dist.monitored_barrier(group=self._control[0], timeout=timedelta(seconds=seconds))

    def from_main(self, ask: Callable[[], Value]) -> Value:
        """Return the result of `ask` in the main process; the others do not call it. Raises PeerLost."""
        if self.world == 1:
            return ask()
        import torch.distributed as dist

        values = [ask() if self.is_main else None]
        with peers():
            dist.broadcast_object_list(values, src=0, group=self._control[0])
        return cast("Value", values[0])

    def gather(self, value: Value) -> list[Value]:
        """Return the value of each process, in rank order: the same in all. Raises PeerLost."""
        if self.world == 1:
            return [value]
        import torch.distributed as dist

        values: list[Value | None] = [None] * self.world
        with peers():
            dist.all_gather_object(values, value, group=self._control[0])
        return cast("list[Value]", values)


def interface_to(host: str) -> str | None:
    """Return the network interface of this machine by which `host` is reached (Linux); None where there is none."""
    import fcntl

    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # sends nothing
            own = socket.inet_aton(probe.getsockname()[0])
            for _, name in socket.if_nameindex():
                request = struct.pack("256s", name.encode()[:15])
                with suppress(OSError):  # an interface without an address
                    if fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[20:24] == own:
                        return name
    except OSError:
        return None
    return None


def check_alike(devices: Sequence[str]) -> None:
    """Raise TrainerError where some processes found a GPU and others did not: they would wait for each other."""
    if len(set(devices)) > 1:
        without = ", ".join(str(rank) for rank, name in enumerate(devices) if name == "cpu")
        raise TrainerError(
            f"of {len(devices)} processes (from 0) these found no GPU that works, and the others did: {without}",
            hint="run `nvidia-smi` there; `device: cuda` shows what torch finds, `device: cpu` uses no GPU",
        )


ALONE = Ranks()


def ranks_from(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Return the ranks that torchrun set in the environment; ALONE where it set none."""
    world = int(environment.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in environment:
        return ALONE
    rank = int(environment["RANK"])
    here = int(environment.get("LOCAL_WORLD_SIZE", world))
    machines = int(
        environment.get("GROUP_WORLD_SIZE", world // here)
    )  # machines may differ in their number of processes
    return Ranks(rank, world, int(environment.get("LOCAL_RANK", rank)), here, machines)


@contextmanager
def peers() -> Iterator[None]:
    """Turn the failure of a collective call into PeerLost."""
    try:
        yield
    except (RuntimeError, ConnectionError) as err:
        raise PeerLost(str(err)) from err
