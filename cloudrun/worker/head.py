"""Lead a run of several machines: the head, which keeps the results, tells the others when to train and when to stop.

The head is a part of the watchdog on the first machine. The others (`node.py`) ask it twice a second. Each machine has
an attempt of its own; between its data and its training each attempt waits for all others (`Attempt._meet`), by the
files `ready` and `begin`.
"""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, cast

from cloudrun.protocol.messages import Begin, StopRequest
from cloudrun.protocol.nodes import SECRETS, TELL, Instruction, News
from cloudrun.protocol.order import Order
from cloudrun.protocol.run_folder import DATA, WEIGHTS, RunFolder
from cloudrun.protocol.timing import DISMISSED_WITHIN_S, NODE_SILENCE_S
from cloudrun.protocol.words import EndReason, NodeState, NodeTask
from cloudrun.worker.status_files import append_to_log
from cloudrun.worker.wire import LARGEST_MESSAGE_BYTES, server_context, write_tar

_FOLDERS = (DATA, WEIGHTS)


@dataclass
class Told:
    """The last news of another machine of the run."""

    at: float  # monotonic
    state: NodeState
    reason: EndReason | None = None  # where it has ended
    message: str = ""
    is_dismissed: bool = False


class Head:
    """Speaks with nodes 1 to `order.nodes` - 1; this machine is node 0, at `address`."""

    def __init__(self, run_dir: Path, order: Order, *, address: str, secret_values: dict[str, str]) -> None:
        self._dir = run_dir
        self._files = RunFolder(run_dir)
        self._order = order
        self._address = address
        self._secrets = secret_values
        self._told: dict[int, Told] = {}
        self._lock = threading.Lock()
        self._is_over = False
        self._began = time.monotonic()
        self._server: _Server | None = None
        # A machine that finds this file shares this machine's disk.
        self._mark = run_dir / f".shared-{secrets.token_hex(8)}"

    def start(self) -> None:
        """Listen for the other machines. Raises OSError where none of the order's ports can be listened on."""
        self._mark.touch()
        self._server = _listening(self._address, self._order.ports, self)
        context = server_context(self._files.certificate)
        # Each connection makes its handshake in a thread of its own, so that a slow one does not hold up the others.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, name="head", daemon=True).start()

    def look(self) -> None:
        """Let all begin when all are ready, and stop the job where a machine is lost. Call on every look."""
        if self._has_ended():
            return
        with self._lock:
            told = dict(self._told)
        lost = self._lost(told)
        if lost is not None:
            reason, message = lost
            StopRequest(reason, message).write(self._files.stop)
        elif self._all_are_ready(told) and not self._files.begin.exists():
            Begin(f"{self._address}:{self._free_port()}").write(self._files.begin)

    def dismiss(self) -> None:
        """Tell the others that the run is over; wait up to `DISMISSED_WITHIN_S` seconds until all have heard it.

        For a run after which this machine stays.
        """
        with self._lock:
            self._is_over = True
        until = time.monotonic() + DISMISSED_WITHIN_S
        while time.monotonic() < until:
            now = time.monotonic()
            with self._lock:
                waiting = [one for one in self._told.values() if not one.is_dismissed and now - one.at < NODE_SILENCE_S]
            if not waiting:
                break
            time.sleep(0.1)
        self.close()

    def close(self) -> None:
        """Stop listening for the other machines, without a word to them."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._mark.unlink(missing_ok=True)

    def hear(self, message: dict[str, Any]) -> dict[str, Any]:
        """Take in one machine's news; return the instruction for that machine, as JSON.

        Raises KeyError, TypeError or ValueError for a message that is not news of a machine of this run.
        """
        news = News.read(message)
        if not 0 < news.rank < self._order.nodes:
            raise ValueError(f"there is no node {news.rank}")
        for line in news.lines:
            append_to_log(self._dir, f"node {news.rank}: {line}")
        result = news.result
        with self._lock:
            is_over = self._is_over
            self._told[news.rank] = Told(
                time.monotonic(),
                news.state,
                None if result is None else result.reason,
                "" if result is None else result.message,
                is_dismissed=is_over,
            )
        return self._instruction(is_over=is_over).as_plain()

    def _instruction(self, *, is_over: bool) -> Instruction:
        begin = Begin.read(self._files.begin)
        return Instruction(
            NodeTask.LEAVE
            if is_over
            else NodeTask.STOP
            if self._has_ended()
            else NodeTask.BEGIN
            if begin is not None
            else NodeTask.WAIT,
            head=None if begin is None else begin.head,
            has_data=self._files.ready.exists(),
            has_weights=self._files.weights.is_dir(),
            mark=self._mark.name,
        )

    def _has_ended(self) -> bool:
        return self._files.result.exists() or self._files.stop.exists()

    def secrets_for(self, _: dict[str, Any]) -> dict[str, Any]:
        """Return the job's secret values. Only a machine that has the run's certificate can ask."""
        return dict(self._secrets)

    def folder(self, name: str) -> Path | None:
        """Return the path of the data or the weights; None for other names, and where there is no such folder."""
        return self._dir / name if name in _FOLDERS and (self._dir / name).is_dir() else None

    def _lost(self, told: dict[int, Told]) -> tuple[EndReason, str] | None:
        """Return (reason, message) where a machine cannot go on, is silent or does not come; else None."""
        now = time.monotonic()
        for rank, one in sorted(told.items()):
            which = f"node {rank} of {self._order.nodes} (from 0)"
            if one.state is NodeState.ENDED and one.reason is not EndReason.FINISHED:
                reason = one.reason or EndReason.FAILED
                return reason, f"{which}: {one.message or reason}"
            if one.state is not NodeState.ENDED and now - one.at > NODE_SILENCE_S:
                return EndReason.FAILED, f"{which} has said nothing for {NODE_SILENCE_S / 60:g} minutes"
        missing = [rank for rank in range(1, self._order.nodes) if rank not in told]
        if missing and now - self._began > self._order.idle_s:
            return (
                EndReason.FAILED,
                f"node {missing[0]} of {self._order.nodes} (from 0) has not come within {self._minutes()}",
            )
        return None

    def _all_are_ready(self, told: dict[int, Told]) -> bool:
        others = [told[rank].state for rank in sorted(told)]
        return others == [NodeState.READY] * (self._order.nodes - 1) and self._files.ready.exists()

    def _minutes(self) -> str:
        return f"{self._order.idle_s / 60:g} minutes"

    def _free_port(self) -> int:
        """Return a port on which the job's first process may listen."""
        with socket.socket() as probe:
            probe.bind((self._address, 0))
            return int(probe.getsockname()[1])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    head: Head

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a machine that has gone, and a program that is not of this run."""


def _listening(address: str, ports: list[int], head: Head) -> _Server:
    failed: OSError | None = None
    for host in (address, ""):  # the address may not be this machine's own, and yet lead here
        for port in ports:
            try:
                server = _Server((host, port), _Handler)
            except OSError as err:
                failed = err
                continue
            server.head = head
            return server
    raise failed or OSError("no port was given to listen on")


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 60.0

    def do_POST(self) -> None:
        ways = {TELL: self.server.head.hear, SECRETS: self.server.head.secrets_for}
        size = int(self.headers.get("Content-Length", "0"))
        if self.path not in ways or size > LARGEST_MESSAGE_BYTES:
            self.send_error(404)
            return
        try:
            answer = json.dumps(ways[self.path](json.loads(self.rfile.read(size)))).encode()
        except (ValueError, KeyError, TypeError):
            self.send_error(400)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self) -> None:
        folder = self.server.head.folder(self.path.strip("/"))
        if folder is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        with suppress(OSError, ssl.SSLError):  # the reader sees that the folder is not whole, and asks again
            write_tar(folder, cast("IO[bytes]", self.wfile))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Log nothing: each machine asks twice a second."""
