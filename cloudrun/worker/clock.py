"""The billed seconds of a run, kept on the machine's disk: a watchdog that is started again goes on counting.

Without that file each start would begin a new budget. A full disk does no harm until the machine boots again: an old
file and the machine's monotonic clock since then give the exact figure.
"""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cloudrun.files.untrusted import read_object
from cloudrun.protocol.messages import replace_text
from cloudrun.protocol.order import Order

_KEEP_EVERY_S = 5.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Moment:
    """A time by both clocks of the machine; the monotonic clock begins anew with each boot, whose id is beside it."""

    boot_id: str  # empty where the system has none
    monotonic: float
    wall: float

    @staticmethod
    def now() -> Moment:
        boot_id = ""
        with suppress(OSError):
            boot_id = _BOOT_ID.read_text().strip()
        return Moment(boot_id, time.monotonic(), time.time())


@dataclass(frozen=True)
class Kept:
    """What an earlier watchdog wrote about one order: `billed_s` seconds were on the bill at `moment`."""

    order_id: str
    moment: Moment
    billed_s: float


def billed_at(order: Order, kept: Kept | None, now: Moment, *, arrived_at: float) -> float:
    """Return the seconds on the bill at `now`, when a watchdog starts; never fewer than an earlier watchdog counted.

    `kept` is None where there was no earlier watchdog. `arrived_at` is when the order was written to this disk, in
    Unix time by the machine's clock.
    """
    if kept is None or kept.order_id != order.identity():
        return order.billed_at_start(now.wall, arrived_at=arrived_at)
    is_same_boot = kept.moment.boot_id == now.boot_id != ""
    if is_same_boot and now.monotonic >= kept.moment.monotonic:
        return kept.billed_s + now.monotonic - kept.moment.monotonic
    return kept.billed_s + max(now.wall - kept.moment.wall, 0.0)


class Clock:
    """Counts the billed seconds of one order, and keeps the count in `path`."""

    def __init__(self, path: Path, order: Order, *, order_path: Path) -> None:
        kept = read_kept(path)
        now = Moment.now()
        try:
            arrived_at = order_path.stat().st_mtime
        except OSError:
            arrived_at = now.wall
        self._path = path
        self._order = order
        self._began = now.monotonic - billed_at(order, kept, now, arrived_at=arrived_at)
        self._kept_at = -math.inf
        # Whether an earlier watchdog has begun to carry out this order.
        self.goes_on = kept is not None and kept.order_id == order.identity()

    def billed_s(self) -> float:
        """Return the seconds that are on the bill now."""
        return time.monotonic() - self._began

    def keep(self) -> None:
        """Write the count, at most every `_KEEP_EVERY_S` seconds. Call on every look. A full disk is no error."""
        if time.monotonic() - self._kept_at < _KEEP_EVERY_S:
            return
        now = Moment.now()
        billed_s = now.monotonic - self._began
        plain = {
            "order_id": self._order.identity(),
            "moment": asdict(now),
            "billed_s": billed_s,
            "spent_usd": round(self._order.spent_by(billed_s), 6),
        }
        with suppress(OSError):
            replace_text(self._path, json.dumps(plain))
        self._kept_at = now.monotonic


def read_kept(path: Path) -> Kept | None:
    """Return the count that an earlier watchdog kept; None where there is no file, or none that can be read."""
    plain = read_object(path)
    try:
        if plain is None:
            return None
        moment = plain["moment"]
        kept = Kept(
            str(plain["order_id"]),
            Moment(str(moment["boot_id"]), float(moment["monotonic"]), float(moment["wall"])),
            float(plain["billed_s"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
    numbers = (kept.moment.monotonic, kept.moment.wall, kept.billed_s)
    return kept if all(math.isfinite(number) and number >= 0 for number in numbers) else None
