"""Wait for a machine that SkyPilot rents: tell news of it, note its provider's start, and keep a deadline.

SkyPilot itself has no deadline.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TextIO

from cloudrun.backends import Say, Terms
from cloudrun.backends.skypilot import internals
from cloudrun.backends.skypilot.listing import CannotList, can_list, machines_of
from cloudrun.backends.skypilot.narrator import Narrator
from cloudrun.backends.skypilot.records import billed_hourly_usd
from cloudrun.billing.cost import usd_for
from cloudrun.text.units import duration

_LOOK_EVERY_S = 15.0
_SAY_EVERY_S = 60.0
_GOES_S = 5.0  # how long the stream may take to end once its request is cancelled


class TookTooLong(Exception):
    """The deadline passed before the machine was up; `trying`: the machine that SkyPilot was renting then."""

    def __init__(self, trying: Trying | None) -> None:
        super().__init__()
        self.trying = trying


@dataclass(frozen=True, slots=True)
class Trying:
    """The machine that SkyPilot asks a cloud for at the moment."""

    infra: str
    region: str | None
    gpu: str | None


class Waiting:
    """The wait for one request for a machine, until that machine is up or the wait has failed."""

    def __init__(self, sky: Any, request: Any, machine: str, *, terms: Terms, say: Say, log: TextIO) -> None:  # noqa: PLR0913 - one request, with all that watches it
        self._sky = sky
        self._machine = machine
        self._terms = terms
        self._say = say
        self._narrator = Narrator(say, log)
        self._outcome: list[Any] = []
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._follow, args=(request,), daemon=True)
        self._seen: datetime | None = None
        self.trying: Trying | None = None

    def until_up(self) -> Any:
        """Wait, and return SkyPilot's handle of the machine. Raises TookTooLong, or SkyPilot's error."""
        began = said = looked = time.monotonic()
        self._thread.start()
        while self._thread.is_alive():
            self._thread.join(1.0)
            now = time.monotonic()
            if self._terms.within_s is not None and now - began >= self._terms.within_s and self._thread.is_alive():
                self._look()
                raise TookTooLong(self.trying)
            if now - looked >= _LOOK_EVERY_S:
                looked = now
                self._look()
            if now - said >= _SAY_EVERY_S:
                said = now
                self._say(self._still_waiting(now - began))
        if self._failure:
            raise self._failure[0]
        _, handle = self._outcome[0]
        return handle

    def leave(self) -> None:
        """Drop all that the stream still brings: the log's descriptor belongs to another file from here on."""
        self._narrator.close()
        self._thread.join(_GOES_S)

    def _follow(self, request: Any) -> None:
        try:
            self._outcome.append(self._sky.stream_and_get(request, output_stream=self._narrator))
        except BaseException as err:  # noqa: BLE001 - `until_up` raises it
            self._failure.append(err)

    def _look(self) -> None:
        """Note which machine is being rented, and its start by its provider's clock; without an answer, nothing."""
        try:
            records = self._sky.get(self._sky.status([self._machine]))
            launched = internals.launched_of(records[0].handle) if records else None
        except Exception:  # noqa: BLE001 - the wait goes on without the news
            return
        if launched is None:
            return
        gpu = ", ".join(f"{name}:{count:g}" for name, count in launched.accelerators.items()) or None
        self.trying = Trying(launched.infra, launched.resources.region, gpu)
        if self._seen is not None or not can_list(self.trying.infra):
            return
        try:
            found = machines_of(self._machine, self.trying.infra, region=self.trying.region)
        except CannotList:
            return
        times = [one.up_since for one in found if one.up_since is not None]
        if times:
            self._seen = min(times)
            nodes = self._terms.agreed.nodes if self._terms.agreed is not None else 1
            self._terms.on_seen(self._seen, billed_hourly_usd(found, nodes=nodes))

    def _still_waiting(self, waited_s: float) -> str:
        what = "a machine"
        if self.trying is not None:
            place = "/".join(part for part in (self.trying.infra, self.trying.region) if part)
            what = f"{self.trying.gpu or 'a machine'} of {place}"
        agreed = self._terms.agreed
        usd = f", ${usd_for(waited_s, agreed.total_hourly_usd):.4f} so far at most" if agreed is not None else ""
        limit = self._terms.within_s
        until = f"; given up after {duration(limit)}" if limit is not None else ""
        return f"still waiting for {what}: {duration(waited_s)}{usd}{until}"
