"""In front of a server on loopback: sees what passes, counts it, changes it, or slows it down."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

Change = Callable[[bytes], bytes]


def unchanged(piece: bytes) -> bytes:
    return piece


class TcpProxy:
    """Passes connections on to `port`. `on_answer` gets each piece that comes back, and gives what is passed on."""

    def __init__(self, port: int, on_answer: Change = unchanged) -> None:
        self.sent = 0  # bytes that went to the server
        self._target = port
        self._on_answer = on_answer
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._start(self._accept)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with self._server:
            while True:
                try:
                    client, _ = self._server.accept()
                except OSError:
                    return
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            self._open += [client, server]
            back = threading.Thread(target=self._pass_on, args=(server, client, self._on_answer), daemon=True)
            back.start()
            self._pass_on(client, server, self._count)
            back.join()

    def _count(self, piece: bytes) -> bytes:
        self.sent += len(piece)
        return piece

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket, change: Change) -> None:
        try:
            while piece := source.recv(65536):
                sink.sendall(change(piece))
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
