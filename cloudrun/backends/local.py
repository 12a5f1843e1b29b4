"""Run a job on this computer: the same worker as on a machine, as a process that outlives the command.

A run is alive while its lock is held. The parent takes the lock and the worker inherits the descriptor, so a run is
alive before `start` returns, and no reused process id can fake it. The files of the lock and of the process id have a
second name outside of the run's folder: where that folder is removed, its processes can still be found and ended.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cloudrun.backends import Offer, Say, Terms
from cloudrun.catalog.infras import CAPABILITIES
from cloudrun.errors import NoMachine, StillBilling
from cloudrun.files import atomic, locks
from cloudrun.files.untrusted import read_regular
from cloudrun.job.notify import channels_of
from cloudrun.notices.channel import VARIABLE, as_text
from cloudrun.protocol.run_folder import RunFolder
from cloudrun.protocol.timing import LOCAL_TERM_WAIT_S
from cloudrun.state.machines import Machine, Scan
from cloudrun.state.records import BilledElsewhere, JobState, Quote, now_utc
from cloudrun.state.run import Run
from cloudrun.text.install import install_command

if TYPE_CHECKING:
    from cloudrun.job.plan import Plan
    from cloudrun.protocol.order import Order

_LONGEST_SAID, _LONGEST_REASON = 1_000_000, 500


class LocalBackend:
    """Implements `Backend` with detached processes under `home/local`."""

    capabilities = CAPABILITIES["local"]

    def __init__(self, home: Path) -> None:
        self._machines = home / "local"

    def quote(self, plan: Plan) -> Quote:
        """Return this computer as a machine that costs nothing. Raises NoMachine where this Python cannot train."""
        if plan.spec.run is None and not _can_train():
            raise NoMachine(
                "torch or timm is not installed in this Python, so nothing can train here",
                hint=f"{install_command('trainer')}; a rented machine has its own",
            )
        return Quote(
            machine=f"this computer ({os.cpu_count()} cores)",
            infra="local",
            region=None,
            gpu=None,
            spot=False,
            hourly_usd=0.0,
            source="this computer costs nothing",
            as_of=now_utc(),
            cpus=os.cpu_count(),
        )

    def keys_sent(self, plan: Plan, quote: Quote | None) -> None:
        """Return None: no key leaves this computer."""

    def offers(self, plan: Plan, say: Say) -> list[Offer]:
        quote = self.quote(plan)
        return [
            Offer(
                infra=quote.infra,
                region=None,
                machine=quote.machine,
                gpu=None,
                memory_gb=None,
                cpus=quote.cpus,
                host_memory_gb=None,
                hourly_usd=0.0,
                spot_usd=None,
                source=quote.source,
                as_of=quote.as_of,
            )
        ]

    def identity(self) -> str | None:
        return None

    def rent(self, plan: Plan, say: Say, terms: Terms) -> Quote:
        return self.quote(plan)

    def start(self, plan: Plan, staged: Path, order: Order) -> str:
        run_dir = self._machines / plan.run_id
        files = RunFolder(run_dir)
        shutil.copytree(staged, run_dir, dirs_exist_ok=True)
        atomic.write(files.order, order.as_json(), private=True)
        channels = as_text(channels_of(plan.spec.notify))
        held = locks.take(files.local_lock, required=True)
        assert held is not None, f"another worker of {run_dir} lives"
        try:
            with files.local_errors.open("w") as err:
                worker = subprocess.Popen(
                    [sys.executable, "-m", "cloudrun.worker", str(run_dir)],
                    cwd=run_dir,
                    env={**os.environ, VARIABLE: channels, "PYTHONPATH": str(files.code)},
                    stdin=subprocess.DEVNULL,
                    stdout=err,
                    stderr=err,
                    pass_fds=(held,),
                    start_new_session=True,
                )
        finally:
            os.close(held)
        files.local_pid.write_text(str(worker.pid))
        for path in (files.local_lock, files.local_pid):
            _keep_beside(path)
        worker.returncode = 0  # the worker outlives this command: Popen must not warn that nobody waits for it
        return run_dir.as_uri()

    def observe(self, run: Run) -> JobState:
        """Return ACTIVE while the worker lives, else IDLE; ABSENT where its folder and its process are gone.

        IDLE also where the folder was removed and the worker still lives.
        """
        run_dir = self._machines / run.run_id
        lives = _lock_is_held(run_dir)
        if not run_dir.is_dir():  # somebody removed it: a worker that still lives cannot bring any result
            return JobState.IDLE if lives else JobState.ABSENT
        return JobState.ACTIVE if lives else JobState.IDLE

    def ended_at(self, run: Run) -> datetime | None:
        return None

    def diagnose(self, run: Run) -> str:
        """Return the last line that the worker wrote to its standard error; empty where there is none."""
        try:
            said = read_regular(RunFolder(self._machines / run.run_id).local_errors, limit=_LONGEST_SAID) or b""
        except OSError:
            return ""
        lines = said.decode("utf-8", "replace").strip().splitlines()
        return lines[-1][-_LONGEST_REASON:] if lines else ""

    def release(self, run: Run) -> datetime:
        """End the worker and its job, and free the disk that they used."""
        run_dir = self._machines / run.run_id
        if not _ends(run_dir, signal.SIGTERM, LOCAL_TERM_WAIT_S) and not _ends(run_dir, signal.SIGKILL, 10.0):
            raise StillBilling(
                f"the processes of `{run.run_id}` did not end",
                hint=f"end them by hand: `fuser -k {_beside(RunFolder(run_dir).local_lock)}`",
            )
        while run_dir.is_dir():
            with suppress(FileNotFoundError):  # another command frees the same disk
                _remove(run_dir)
        files = RunFolder(run_dir)
        for path in (files.local_lock, files.local_pid):
            _beside(path).unlink(missing_ok=True)
        return now_utc()

    def billed_elsewhere(self, run: Run) -> BilledElsewhere | None:
        return None

    def scan(self) -> Scan:
        """Return a scan without machines: this computer costs nothing, so nothing on it is worth a warning."""
        return Scan(at=now_utc())

    def end_machine(self, machine: Machine) -> None:
        raise ValueError(f"{machine.name} is not a machine of this computer")


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except RecursionError:  # a thousand folders, each inside the one before
        subprocess.run(["rm", "-rf", "--", folder], check=True)


def _ends(run_dir: Path, number: signal.Signals, seconds: float) -> bool:
    """Signal the worker, if its lock shows that it lives, and wait; return whether it has ended within `seconds`."""
    until = time.monotonic() + seconds
    if _lock_is_held(run_dir):
        pid = _worker_of(run_dir)
        if pid is None:
            return False
        os.kill(pid, number)
    while _lock_is_held(run_dir):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _worker_of(run_dir: Path) -> int | None:
    """Return the worker's process id; None where the job has put something else into its file."""
    file = RunFolder(run_dir).local_pid
    for path in (_beside(file), file):
        text = read_regular(path, limit=20) or b""
        if text.isdigit() and int(text) > 1:
            return int(text)
    return None


def _beside(path: Path) -> Path:
    """Return the second name of a file of the run's folder, outside of it."""
    folder = path.parent
    return folder.parent.with_name("local-locks") / f"{folder.name}.{path.name}"


def _keep_beside(path: Path) -> None:
    """Give a file of the run's folder a second name outside of it, where the file system can."""
    second = _beside(path)
    second.parent.mkdir(exist_ok=True)
    second.unlink(missing_ok=True)
    with suppress(OSError):
        second.hardlink_to(path)


def _lock_is_held(run_dir: Path) -> bool:
    lock = RunFolder(run_dir).local_lock
    return locks.is_held(lock) or locks.is_held(_beside(lock))


def _can_train() -> bool:
    from importlib.util import find_spec

    return all(find_spec(name) is not None for name in ("torch", "torchvision", "timm"))
