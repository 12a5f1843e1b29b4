"""Run a machine on this computer: a process tree whose network is a loopback, with connections into and out of it.

Two such machines can't collide, and no packet can leave this computer. A socket stays in the network in which it
was made, so that this process may carry bytes between the two loopbacks.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_OWN_NETWORK = ["setpriv", "--pdeathsig", "KILL", "unshare", "-m", "-n", "-p", "-u", "-f", "--kill-child"]
# The kernel tells a child of the end of the *thread* that started it: this thread lasts as long as the process.
_starter = ThreadPoolExecutor(1, thread_name_prefix="starts-machines")


class Machine:
    """`command` as the first process of a machine; its output goes to `log`."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        with log.open("wb") as output:
            self._process = _starter.submit(
                subprocess.Popen[bytes], [*_OWN_NETWORK, *command], stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT,
            ).result()  # fmt: skip
        self._servers: list[socket.socket] = []
        own = Path("/proc/self/ns/net").stat().st_ino
        while self.is_up and self._network().stat().st_ino == own:
            time.sleep(0.02)

    @property
    def is_up(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id, seen from this computer, of `unshare`; the machine's first process is its child."""
        return self._process.pid

    def bring_in(self, address: tuple[str, int]) -> None:
        """Make a server of this computer answer in the machine, at the same address. Waits for the loopback there."""
        until = time.monotonic() + 10
        while True:
            try:
                self._carry(self._there(lambda: socket.create_server(address)), lambda: _connected(address))
                return
            except OSError:
                if not self.is_up or time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def bring_out(self, port: int, address: tuple[str, int]) -> None:
        """Make the server on `port` in the machine answer at `address` of this computer."""
        there = ("127.0.0.1", port)
        self._carry(socket.create_server(address), lambda: self._there(lambda: _connected(there)))

    def end(self) -> None:
        """End the machine as if its plug were pulled: no process in it is told."""
        self._process.kill()
        self._process.wait()
        for server in self._servers:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)  # closing alone wakes nobody who waits for a connection
            server.close()

    def _network(self) -> Path:
        return Path(f"/proc/{self._process.pid}/ns/net")

    def _there(self, make: Callable[[], socket.socket]) -> socket.socket:
        """Return the socket that `make` makes in the machine's network."""
        with ThreadPoolExecutor(1) as thread:  # a thread of its own, which ends in that network
            return thread.submit(self._make_there, make).result()

    def _make_there(self, make: Callable[[], socket.socket]) -> socket.socket:
        with self._network().open() as network:
            if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        return make()

    def _carry(self, server: socket.socket, connect: Callable[[], socket.socket]) -> None:
        self._servers.append(server)
        threading.Thread(target=_serve, args=(server, connect), daemon=True).start()


def _connected(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address)


def _serve(server: socket.socket, connect: Callable[[], socket.socket]) -> None:
    """Join each connection to `server` with a new connection of `connect`, until the server is closed."""
    while True:
        try:
            near, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_join, args=(near, connect), daemon=True).start()


def _join(near: socket.socket, connect: Callable[[], socket.socket]) -> None:
    with near:
        try:
            far = connect()
        except OSError:  # nothing listens there, or it has ended
            return
        with far:
            back = threading.Thread(target=_pass_on, args=(far, near), daemon=True)
            back.start()
            _pass_on(near, far)
            back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def loopback_network(port: int) -> str:
    """Return the first three numbers of 256 loopback addresses that no other box of this computer uses.

    `port` is the box's own, which nobody else holds.
    """
    return f"127.{64 + port // 256 % 128}.{port % 256}"
