"""Keep one watchdog a run, whoever starts it and however often. On a cloud with Ray it outlives its SkyPilot job.

There a SkyPilot job is a Ray task, which is killed with all that it has started: by Ray's memory monitor, by
`ray stop`, by `sky cancel`. So the SkyPilot job is a *holder*: it keeps SkyPilot's place, and waits for the watchdog,
which runs outside the job's process tree.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cloudrun.files import locks
from cloudrun.files.untrusted import read_object
from cloudrun.protocol.messages import replace_text
from cloudrun.protocol.order import Order
from cloudrun.protocol.run_folder import Place

_LOOK_EVERY_S = 0.3
# A watchdog that dies this often guards nothing: the holder ends, so that SkyPilot's idle timer sees no job.
_STARTS = 5
_PAUSE_S = 2.0


def write_end(place: Place, order: Order, code: int) -> None:
    """Write the exit code of the watching process, so that a second start does not watch again."""
    with suppress(OSError):  # a full disk, or the folder is gone
        replace_text(place.end, json.dumps({"order_id": order.identity(), "exit_code": code}))


def read_end(place: Place, order: Order) -> int | None:
    """Return the exit code of the process that has carried out this order; None where it has not ended."""
    end = read_object(place.end) or {}
    code = end.get("exit_code")
    return code if end.get("order_id") == order.identity() and isinstance(code, int) else None


def watch_here(place: Place, order: Order, watch: Callable[[], int]) -> int:
    """Run `watch` in this process and return its exit code.

    Where another process runs it, waits for that process; where it has been run to its end, returns that exit code.
    """
    while True:
        held = locks.take(place.lock)
        if held is not None:
            code = read_end(place, order)
            if code is None:
                code = watch()
                write_end(place, order, code)
            os.close(held)
            return code
        time.sleep(_LOOK_EVERY_S)


def begin(place: Place, order: Order, command: list[str]) -> int:
    """Start `command` outside this process's tree, unless it runs or has run. Returns 0 at once."""
    if read_end(place, order) is None:
        _start_detached(place, command)
    return 0


def hold(place: Place, order: Order, command: list[str]) -> int:
    """Start `command` outside this process's tree, again where it is killed, and wait; return its exit code.

    Returns 1 where `command` was killed after its last start, or the run's folder or this process's parent is gone.
    `command` gets the descriptor of the lock as its last argument, and has to keep it open (`watch_detached`). SIGTERM
    ends this process alone: a user who kills the SkyPilot job does not mean the watchdog, which is stopped by a file.
    """
    parent = os.getppid()
    place.lock.touch()
    with place.lock.open() as probe, place.holder_lock.open("w") as mine:
        with suppress(OSError):
            locks.share(mine.fileno())
        starts = 0
        while os.getppid() == parent:  # else the Ray task that started this process is gone, and the job with it
            if locks.is_held_by_another(probe.fileno()):
                time.sleep(_LOOK_EVERY_S)
                continue
            code = read_end(place, order)
            if code is not None:
                return code
            if starts == _STARTS or not place.run_dir.is_dir():
                break
            if starts:
                time.sleep(_PAUSE_S)
            starts += _start_detached(place, command)
        sys.stderr.write(f"cloudrun: the {place.name} has not ended as it should: {_last_line(place.errors)}\n")
    return 1


def watch_detached(place: Place, order: Order, held: int, watch: Callable[[], int]) -> int:
    """Run `watch` in this process, which has inherited the lock as descriptor `held`; return its exit code."""
    os.set_inheritable(held, False)  # noqa: FBT003 - it takes no keyword
    code = watch()
    write_end(place, order, code)
    return code


def has_holder(place: Place) -> bool:
    """Return whether a SkyPilot job waits for the watchdog; True also where the watchdog is the SkyPilot job itself."""
    return not place.holder_lock.exists() or locks.is_shared(place.holder_lock)


def _start_detached(place: Place, command: list[str]) -> bool:
    """Start the command as a child of the system's first process, in a session of its own.

    Returns False, and starts nothing, where another process has the lock.
    """
    held = locks.take(place.lock)
    if held is None:
        return False
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            with place.errors.open("ab") as errors:
                subprocess.Popen(
                    [*command, str(held)],
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    pass_fds=(held,),
                    start_new_session=True,
                )
        finally:
            os._exit(0)
    os.close(held)
    os.waitpid(child, 0)
    return True


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "it left no word"
