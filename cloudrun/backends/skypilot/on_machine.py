"""Ask and tell a rented machine over SSH what SkyPilot cannot."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from cloudrun.errors import StoreError
from cloudrun.protocol.run_folder import DATA_BEAT, Place
from cloudrun.protocol.timing import DATA_EXPECTED_EVERY_S
from cloudrun.remote.ssh import Connection
from cloudrun.worker.sky_internals import REMIND

_HELD = 75
# SkyPilot's idle timer counts whole minutes, of which there is at least one.
_REMIND_EVERY_S = 25.0


def watchdog_lives(connection: Connection, place: Place) -> bool:
    """Return whether the run's watchdog is at work, even where its SkyPilot job was killed. Raises StoreError."""
    lock = shlex.quote(str(place.lock))
    code, _ = connection.run(f"[ -e {lock} ] && flock --nonblock --shared --conflict-exit-code {_HELD} {lock} true")
    return code == _HELD


def kept_awake(connection: Connection) -> AbstractContextManager[None]:
    """Keep SkyPilot's idle timer from running out in the block, while files are sent and no SkyPilot job runs yet.

    The timer goes on counting as soon as the block ends, or this computer goes away.
    """
    script = f'"${{SKY_RUNTIME_DIR:-$HOME}}/skypilot-runtime/bin/python" -c {shlex.quote(REMIND)}'
    return _repeated(connection, f"cd && {script}", every_s=_REMIND_EVERY_S)


def data_on_their_way(connection: Connection, run_dir: str) -> AbstractContextManager[None]:
    """Tell the watchdog, while the block runs, that the data come as soon as SkyPilot has taken the job.

    The watchdog is at work already, and would stop a job whose data do not come.
    """
    return _repeated(connection, f"touch {shlex.quote(run_dir)}/{DATA_BEAT}", every_s=DATA_EXPECTED_EVERY_S)


@contextmanager
def _repeated(connection: Connection, script: str, *, every_s: float) -> Iterator[None]:
    """Run a script on the machine again and again while the block runs; a failure is ignored until the next time."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every_s):
            with suppress(StoreError):  # the command that uses the connection meets the same error
                connection.run(script)

    thread = threading.Thread(target=repeat, name="repeated", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=1.0)
