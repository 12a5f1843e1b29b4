"""What is asked of a rented machine itself, over SSH, where SkyPilot does not know it."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cloudrun.errors import StoreError
from cloudrun.ssh import Connection
from cloudrun.worker.holder import Place
from cloudrun.worker.sky_runtime import REMIND

_HELD = 75
# SkyPilot's idle timer counts whole minutes, of which there is at least one.
_REMIND_EVERY_S = 25.0


def switch_lives(connection: Connection, place: Place) -> bool:
    """Return whether the run's switch is at work, be its SkyPilot job killed. Raises StoreError."""
    lock = shlex.quote(str(place.lock))
    code, _ = connection.run(f"[ -e {lock} ] && flock --nonblock --shared --conflict-exit-code {_HELD} {lock} true")
    return code == _HELD


@contextmanager
def kept_awake(connection: Connection) -> Iterator[None]:
    """Keep SkyPilot's idle timer from running out while files are sent and no SkyPilot job runs yet.

    It goes on counting as soon as this ends, or this computer goes away.
    """
    over = threading.Event()
    script = f'"${{SKY_RUNTIME_DIR:-$HOME}}/skypilot-runtime/bin/python" -c {shlex.quote(REMIND)}'

    def remind() -> None:
        while not over.wait(_REMIND_EVERY_S):
            with suppress(StoreError):  # whoever sends the files sees it, too
                connection.run(f"cd && {script}")

    thread = threading.Thread(target=remind, name="kept awake", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=1.0)
