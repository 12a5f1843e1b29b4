"""A link with a rate and a delay, on loopback: a TCP relay in user space, for peers that are to meet the same network.

Each direction has one queue that all connections share, as on a home's line: a chunk leaves when the line is free,
and arrives half a round trip later. A new connection waits one round trip more, for its handshake. There is no loss
and no slow start, so that what is measured is the tools' own doing.

python -m tests.support.relay PORT --megabits 200 --round-trip-ms 50
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK = 1 << 16
_WINDOW_BYTES = 4_000_000  # what one connection may have on its way, as by a large receive window


class Line:
    """One direction of the link."""

    def __init__(self, bytes_s: float) -> None:
        self._bytes_s = bytes_s
        self._free_at = 0.0
        self.count = 0

    def leaves_at(self, now: float, count: int) -> float:
        self._free_at = max(self._free_at, now) + count / self._bytes_s
        self.count += count
        return self._free_at


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: Line, delay_s: float, handshake_s: float
) -> None:
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_WINDOW_BYTES // _CHUNK)

    async def deliver() -> None:
        while True:
            at, chunk = await queue.get()
            wait = at - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            if not chunk:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(deliver())
        extra = handshake_s
        while chunk := await reader.read(_CHUNK):
            await queue.put((line.leaves_at(loop.time() + extra, len(chunk)) + delay_s, chunk))
            extra = 0.0
        await queue.put((loop.time() + delay_s, b""))


async def _serve(port: int, target: int, bytes_s: float, round_trip_s: float, counts: object) -> None:
    up, down = Line(bytes_s), Line(bytes_s)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", target)
        with suppress(BaseExceptionGroup, ConnectionError):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pump(reader, other_writer, up, round_trip_s / 2, round_trip_s))
                tasks.create_task(_pump(other_reader, writer, down, round_trip_s / 2, 0.0))
        for one in (writer, other_writer):
            with suppress(ConnectionError, OSError):
                one.close()

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # peers that are killed reset connections
    server = await asyncio.start_server(connected, "127.0.0.1", port, limit=1 << 20)

    async def publish() -> None:
        while True:
            await asyncio.sleep(0.05)
            counts[0], counts[1] = up.count, down.count  # type: ignore[index]

    async with server:
        await asyncio.gather(server.serve_forever(), publish())


def _main(port: int, target: int, bytes_s: float, round_trip_s: float, counts: object) -> None:
    asyncio.run(_serve(port, target, bytes_s, round_trip_s, counts))


class Relay:
    """A running relay; `port` is its own, and what has gone up and down since it began is in bytes."""

    def __init__(self, port: int, counts: object) -> None:
        self.port = port
        self._counts = counts

    @property
    def up_bytes(self) -> int:
        return int(self._counts[0])  # type: ignore[index]

    @property
    def down_bytes(self) -> int:
        return int(self._counts[1])  # type: ignore[index]


@contextmanager
def relay(target: int, *, megabits: float, round_trip_ms: float) -> Iterator[Relay]:
    """A relay in a process of its own to `target`, a port of this machine."""
    held = socket.socket()  # until the relay has ended: nobody else is given its port
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    port = held.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    counts = context.Array("q", 2, lock=False)
    process = context.Process(
        target=_main, args=(port, target, megabits * 1e6 / 8, round_trip_ms / 1000, counts), daemon=True
    )
    process.start()
    try:
        for _ in range(500):
            time.sleep(0.02)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.is_alive(), "the relay did not start"
        yield Relay(port, counts)
    finally:
        process.kill()
        process.join()
        held.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--megabits", type=float, default=200.0)
    parser.add_argument("--round-trip-ms", type=float, default=50.0)
    options = parser.parse_args()
    with relay(options.port, megabits=options.megabits, round_trip_ms=options.round_trip_ms) as running:
        print(f"127.0.0.1:{running.port} -> 127.0.0.1:{options.port}", flush=True)
        with suppress(KeyboardInterrupt):
            multiprocessing.Event().wait()
