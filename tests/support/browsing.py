"""Ask the pages of `cloudrun ui` as a browser does, within the test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage, HTTPResponse
from typing import Any

from cloudrun.state.ledger import Ledger
from cloudrun.ui.server import Server, serving
from cloudrun.ui.site import Site


@dataclass(frozen=True)
class Got:
    """An answer."""

    status: int
    headers: HTTPMessage
    text: str


class Visitor:
    """A browser that has the cookie, unless a header says otherwise."""

    def __init__(self, server: Server, ledger: Ledger) -> None:
        self.server = server
        self.ledger = ledger
        self.cookie = server.access.cookie.partition(";")[0]

    def __call__(self, path: str, method: str = "GET", **headers: str | None) -> Got:
        with self.asking(path, method, **headers) as answer:
            return Got(answer.status, answer.headers, answer.read().decode())

    @contextmanager
    def asking(self, path: str, method: str = "GET", **headers: str | None) -> Iterator[HTTPResponse]:
        """The answer while it comes. A header of None is left out; `_` in its name stands for `-`."""
        given = {"Cookie": self.cookie, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection = HTTPConnection("127.0.0.1", self.server.access.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host="Host" in given)
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders()
            yield connection.getresponse()
        finally:
            connection.close()

    def events(self, run_id: str, last_id: str = "") -> Iterator[Event]:
        """The changes of a run, until it ends or the caller has heard enough."""
        headers: dict[str, str | None] = {"Last_Event_ID": last_id} if last_id else {}
        with self.asking(f"/run/{run_id}/events", **headers) as answer:
            fields: dict[str, list[str]] = {}
            for line in answer:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields.setdefault(name, []).append(value)
                elif "event" in fields:
                    yield Event(fields["event"][0], "".join(fields.get("id", [])), "\n".join(fields["data"]))
                    fields = {}
                else:
                    fields = {}


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    name: str
    id: str
    data: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@contextmanager
def visiting(ledger: Ledger) -> Iterator[Visitor]:
    """The pages of this ledger while the block runs."""
    closing = threading.Event()
    with serving(0, lambda: Site(ledger, closing)) as server:
        try:
            yield Visitor(server, ledger)
        finally:
            closing.set()
